"""Sources: everything that was named is found, once and in a fixed order."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import PIL.Image
import pytest
from support.source_trees import make, names
from support.unprivileged import unprivileged

from pipelines.errors import UsageError
from pipelines.images.sources import IMAGE_EXTENSIONS, ImageSource, resolve


def problem(*sources: str, **options: Path) -> str:
    with pytest.raises(UsageError) as error:
        resolve(sources, **options)
    assert str(error.value).isprintable()
    return str(error.value)


# Folders


def test_a_folder_is_searched_in_order(here: Path) -> None:
    make("p/b.jpg", "p/a.PNG", "p/z/2.tif", "p/m/deep/er/1.JpEg", "p/notes.txt", "p/clip.mp4", "p/noextension")
    assert names("p") == ["a.PNG", "b.jpg", "m/deep/er/1.JpEg", "z/2.tif"]
    assert [source.location for source in resolve(["p"])][:2] == ["p/a.PNG", "p/b.jpg"]
    assert names("p/") == names(str(here / "p")) == names("./p/../p") == names("p")
    assert all(Path(source.location).exists() for source in resolve([str(here / "p")]))


@pytest.mark.parametrize("extension", IMAGE_EXTENSIONS)
def test_every_extension_is_found_in_any_case(extension: str, here: Path) -> None:
    make(f"p/a{extension}", f"p/B{extension.upper()}")
    assert len(names("p")) == 2


def test_the_table_names_formats_as_pillow_does() -> None:
    PIL.Image.init()
    assert set(IMAGE_EXTENSIONS.values()) - set(PIL.Image.OPEN) <= {"HEIF", "JXL", "AVIF"}


def test_hidden_files_and_folders_are_passed_over(here: Path) -> None:
    make("p/a.jpg", "p/._a.jpg", "p/.jpg", "p/.cache/b.jpg", ".hidden/c.jpg")
    assert names("p") == ["a.jpg"]
    assert names(".hidden") == ["c.jpg"]  # named by the user
    assert names("p/._a.jpg") == ["._a.jpg"]


def test_links_are_followed_once(here: Path) -> None:
    make("p/real/a.jpg", "elsewhere/b.jpg")
    Path("p/loop").symlink_to(here / "p", target_is_directory=True)
    Path("p/real/up").symlink_to("..", target_is_directory=True)
    Path("p/other").symlink_to(here / "elsewhere", target_is_directory=True)
    Path("p/real/same.jpg").symlink_to("a.jpg")
    assert names("p") == ["other/b.jpg", "real/a.jpg"]


def test_a_broken_link_is_still_an_image_of_the_run(here: Path) -> None:
    make("p/a.jpg")
    Path("p/gone.jpg").symlink_to("nowhere.jpg")
    assert names("p") == ["a.jpg", "gone.jpg"]


def test_the_output_folder_is_not_searched(here: Path) -> None:
    make("p/a.jpg", "p/out/overlays/a.jpg")
    assert names("p", output=Path("p/out")) == ["a.jpg"]
    assert names("p/**/*.jpg", output=here / "p/out") == ["a.jpg"]
    assert names("p/out/overlays", output=Path("p/out")) == ["a.jpg"]
    assert "output folder" in problem("p", output=here / "p")


def test_folders_that_yield_nothing(here: Path) -> None:
    make("p/notes.md")
    assert "no image in the folder 'p'" in problem("p")
    assert ".jpg" in problem("p")


def test_a_folder_that_cannot_be_read_is_an_error_not_a_gap() -> None:
    with tempfile.TemporaryDirectory() as folder:
        make(f"{folder}/a.jpg", f"{folder}/shut/b.jpg", f"{folder}/list.txt")
        Path(folder).chmod(0o755)
        Path(folder, "shut").chmod(0)
        Path(folder, "list.txt").chmod(0)
        with unprivileged():
            assert "shut" in problem(folder)
            assert "Permission denied" in problem(f"{folder}/**/*.jpg")
            assert "list.txt" in problem(f"{folder}/list.txt")
            assert "Permission denied" in problem(f"{folder}/shut/b.jpg")
        Path(folder, "shut").chmod(0o755)


# Files, globs


def test_files(here: Path) -> None:
    make("p/a.jpg", "p/b.dat", "q/a.jpg")
    assert names("p/a.jpg") == ["a.jpg"]
    assert names("p/b.dat", "p/a.jpg") == ["b.dat", "a.jpg"]
    assert names("p/a.jpg", "q/a.jpg") == ["p/a.jpg", "q/a.jpg"]


def test_globs(here: Path) -> None:
    make("p/a.jpg", "p/b.JPG", "p/x/c.jpg", "p/x/y/d.jpg", "p/x/e.dat", "p/.h/f.jpg")
    assert names("p/*.jpg") == ["a.jpg"]
    assert names("p/**/*.jpg") == ["a.jpg", "x/c.jpg", "x/y/d.jpg"]
    assert names("p/**/x/*.jpg") == ["x/c.jpg"]
    assert names("p/*") == ["a.jpg", "b.JPG"]
    assert names("p/**") == ["a.jpg", "b.JPG", "x/c.jpg", "x/y/d.jpg"]
    assert names("p/**/*.dat") == ["x/e.dat"]
    assert names("p/*/[cd].jp?") == ["x/c.jpg"]
    assert names(str(here / "p/x/**/*.jpg")) == ["c.jpg", "y/d.jpg"]
    assert names("*/*.jpg", "p/x/y/d.jpg") == ["p/a.jpg", "p/x/y/d.jpg"]
    assert "no image matches" in problem("p/*.webp")
    assert "nowhere" in problem("nowhere/*.jpg")


def test_a_file_whose_name_looks_like_a_glob(here: Path) -> None:
    make("p/a[1].jpg", "p/a1.jpg")
    assert names("p/a[1].jpg") == ["a[1].jpg"]


def test_a_glob_searches_no_deeper_than_it_reaches(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("p/a.jpg", "p/x/b.jpg", "p/x/y/c.jpg")
    searched = []
    monkeypatch.setattr("os.scandir", lambda path, scan=os.scandir: searched.append(Path(path)) or scan(path))
    assert names("p/*/*.jpg") == ["x/b.jpg"]
    assert searched == [Path("p"), Path("p/x")]


def test_a_link_that_sorts_first_takes_nothing_from_a_glob(here: Path) -> None:
    make("run-1/a.jpg", "run-2/b.jpg", "run-2/x/c.jpg")
    Path("latest").symlink_to("run-1", target_is_directory=True)
    Path("run-2/again").symlink_to("..", target_is_directory=True)
    assert names("run-*/*.jpg") == ["run-1/a.jpg", "run-2/b.jpg"]
    assert names("**/run-1/*.jpg") == ["run-1/a.jpg"]
    assert names("*/*.jpg") == ["latest/a.jpg", "run-2/b.jpg"]
    assert names("run-2/**/x/*.jpg") == ["x/c.jpg"]


def test_what_a_run_wrote_is_no_photo_unless_it_is_named(here: Path) -> None:
    make("p/a.jpg", "p/out/overlays/a.jpg", "p/out/ids/a.png", "p/out/b.jpg", "p/out/more/c.jpg")
    Path("p/out/.evsam").mkdir()
    assert names("p") == names("p/**/*.*") == ["a.jpg", "out/b.jpg", "out/more/c.jpg"]
    assert names("p/*/*/*.*") == ["out/more/c.jpg"]
    assert names("p/*/ids/*.png") == names("p/**/ids/*.png") == ["out/ids/a.png"]
    assert names("p/out/overlays") == ["a.jpg"]


@pytest.mark.parametrize("source", ["gone.jpg", "gone/", "a.jpg/b.jpg", "", "a\0b", "x" * 5000, "ftp://h/a.jpg", "l\n"])
def test_sources_that_do_not_exist(source: str, here: Path) -> None:
    make("a.jpg")
    assert problem(source)


def test_no_source_at_all() -> None:
    assert "no images" in problem()


# Lists and URLs


def test_a_list(here: Path) -> None:
    make("l/sub/b.jpg", "l/a.jpg")
    Path("l/list.txt").write_text("# comment\n\n sub/b.jpg \r\n./a.jpg\ngone.jpg\na.jpg\n#a b.jpg\n")
    assert names("l/list.txt") == ["sub/b.jpg", "a.jpg", "gone.jpg"]
    assert [source.location for source in resolve(["l/list.txt"])] == ["l/sub/b.jpg", "l/a.jpg", "l/gone.jpg"]


def test_a_list_that_points_elsewhere_names_below_the_common_folder(here: Path) -> None:
    make("data/cam1/0.jpg", "data/cam2/0.jpg")
    Path("lists").mkdir()
    Path("lists/a.TXT").write_text(f"../data/cam1/0.jpg\n{here}/data/cam2/0.jpg\n")
    assert names("lists/a.TXT") == ["cam1/0.jpg", "cam2/0.jpg"]


def test_a_list_on_standard_input(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\ufeffp/é.jpg\nhttps://example.com/x/c.jpg?size=2\np/b.jpg\n"
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    assert resolve(["-"]) == (
        ImageSource("p/é.jpg", "p/é.jpg"),
        ImageSource("c.jpg", "https://example.com/x/c.jpg?size=2"),
        ImageSource("p/b.jpg", "p/b.jpg"),
    )


def test_standard_input_that_gives_no_list(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)  # as Python has it where it is closed
    assert "standard input: it is closed" in problem("-")
    with Path("written").open("w") as file:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=file))
        assert "not readable" in problem("-")


def test_lists_that_are_none(here: Path) -> None:
    Path("empty.txt").write_text("\n# nothing\n")
    Path("utf16.txt").write_text("a.jpg\n", encoding="utf-16")
    assert "lists no image" in problem("empty.txt")
    assert "UTF-8" in problem("utf16.txt")


def test_urls() -> None:
    assert names("https://example.com/a/b%20c.jpg?x=1#y") == ["b c.jpg"]
    assert names("HTTP://user:secret@example.com") == ["example.com"]
    assert names("http://h/1/a.jpg", "http://h/2/a.jpg") == ["1/a.jpg", "2/a.jpg"]
    assert names("http://h/a.jpg?n=1", "http://h/a.jpg?n=2", "http://h/a.jpg?n=1") == ["a.jpg", "a-2.jpg"]
    assert names("http://h/a/..") == ["__"]
    assert names("http://h/a/b.jpg", "http://h/%2e%2e%2fb.jpg") == ["a/b.jpg", "__/b.jpg"]
