"""Names, ids and shards of sources: unique, stable, and no name leaves its folder."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.source_trees import make, names

from pipelines.errors import UsageError
from pipelines.images.sources import ImageSource, image_ids, parse_shard, resolve, shard
from pipelines.not_yet import no_photograph


def test_equal_names_in_two_folders(here: Path) -> None:
    make("2020/images/a.jpg", "2021/images/a.jpg", "other/a.jpg")
    assert names("2020/images", "2021/images") == ["2020/images/a.jpg", "2021/images/a.jpg"]
    assert names("2020/images", "other") == ["2020/images/a.jpg", "other/a.jpg"]
    assert names("2020", "other/a.jpg") == ["2020/images/a.jpg", "other/a.jpg"]
    assert names("2020/images", "http://h/x/a.jpg") == ["a.jpg", "a-2.jpg"]
    assert names("other", "other/a.jpg", "./other") == ["a.jpg"]


def test_names_keep_extension_and_unicode(here: Path) -> None:
    nfd = unicodedata.normalize("NFD", "é.jpg")
    make("p/a.jpg", "p/a.png", "p/日本 語.jpg", f"p/{nfd}", "p/🦊.webp")
    assert set(names("p")) == {"a.jpg", "a.png", "日本 語.jpg", nfd, "🦊.webp"}


def test_names_that_meet_when_case_or_normal_form_is_ignored(here: Path) -> None:
    make("p/A.jpg", "p/a.JPG", "p/a-2.jpg", "p/\u00e9.png", "p/e\u0301.png", "p/Sub/x.png", "p/sub/X.png")
    assert names("p") == [
        "A.jpg", "a-2.jpg", "a-3.JPG", "e\u0301.png", "\u00e9-2.png", "Sub/x.png", "sub/X-2.png",
    ]  # fmt: skip


def test_a_number_takes_no_name_that_another_image_has(here: Path) -> None:
    Path("list.txt").write_text("A.jpg\na.jpg\na-2.jpg\n")
    assert names("list.txt") == ["A.jpg", "a-3.jpg", "a-2.jpg"]


def test_a_name_is_no_folder_of_another_even_with_an_extension_added(here: Path) -> None:
    make("p/a.jpg", "p/a.jpg.png/b.jpg", "q/a.jpg")
    assert names("p") == ["a-2.jpg", "a.jpg.png/b.jpg"]


def test_control_characters_separators_and_drives_are_replaced(here: Path) -> None:
    make("p/a\nb\x7f.jpg", "p/C:\\..\\x.jpg", "p/C:y.jpg", "p/12:30:05.jpg", "p/\u2028.jpg")
    os.close(os.open(b"p/\xff.jpg", os.O_CREAT))
    assert sorted(names("p")) == ["12:30:05.jpg", "C__.._x.jpg", "C_y.jpg", "_-2.jpg", "_.jpg", "a_b_.jpg"]


def test_long_names_are_shortened_and_keep_their_extension(here: Path) -> None:
    make(f"p/{'é' * 120}1.jpg", f"p/{'é' * 120}2.jpg")
    first, second = names("p")
    assert first.endswith("éé.jpg")
    assert second.endswith("éé-2.jpg")
    assert len(first.encode()) <= 200


odd = st.sampled_from(". aAbB-1~:\\é\u0301ßİ🦊\n\x85")
sign = odd | st.characters(exclude_characters="/\0", exclude_categories=["Cs"])
part = st.text(sign, min_size=1, max_size=12).filter(lambda text: text not in (".", ".."))
entry = st.lists(st.one_of(st.sampled_from(["..", ".", "a", "A", "C:"]), part), min_size=1, max_size=4).map("/".join)


def check(sources: tuple[ImageSource, ...], folder: Path) -> None:
    """The promises of ImageSource, tried on a real file system in the ways outputs use names."""
    keys = [unicodedata.normalize("NFC", source.name).casefold() for source in sources]
    assert len(set(keys)) == len(keys)
    for source in sources:
        path = PurePosixPath(source.name)
        assert source.name == str(path)
        assert not path.is_absolute()
        assert not {"..", ".", ""} & set(source.name.split("/"))
        assert not PureWindowsPath(source.name).anchor
        assert ".." not in PureWindowsPath(source.name).parts
        assert len(source.name.splitlines()) == 1
        assert not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in source.name)
    shutil.rmtree(folder, ignore_errors=True)
    for source in sources:
        picture = folder / "overlays" / f"{source.name}.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.touch(exist_ok=False)
        objects = folder / "objects" / source.name
        objects.mkdir(parents=True)
        (objects / "0.png").touch(exist_ok=False)


@settings(max_examples=50)
@given(
    entries=st.lists(entry.filter(lambda line: not no_photograph(line)), min_size=1, max_size=12), urls=st.booleans()
)
@example(entries=[".", "/", "..", "../..", "a"], urls=False)
@example(entries=["..", "%2e%2e/%2e%2e", "//", "?", "h/a%00b"], urls=True)
def test_names_of_any_list_are_safe_and_stable(
    entries: list[str], urls: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "list"
    folder.mkdir(exist_ok=True)
    lines = [f"http://{line}" if urls else line for line in entries]
    (folder / "list.txt").write_text("x.jpg\n" + "\n".join(lines), encoding="utf-8", newline="")
    found = resolve([str(folder / "list.txt")])
    check(found, folder / "out")
    assert resolve([str(folder / "list.txt")]) == found


@settings(max_examples=25)
@given(
    trees=st.lists(
        st.lists(st.lists(part, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8), min_size=1, max_size=3
    )
)
def test_names_of_any_tree_are_safe_complete_and_stable(
    trees: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.getbasetemp() / "trees"
    shutil.rmtree(base, ignore_errors=True)
    made = 0
    for number, tree in enumerate(trees):
        (base / str(number)).mkdir(parents=True)
        for path in [*tree, "x"]:
            file = base / str(number) / f"{path}.jpg"
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch(exist_ok=False)
            except OSError:  # this very name, or a file in place of a folder
                continue
            made += not any(part.startswith(".") for part in file.relative_to(base).parts)
    roots = [str(base / str(number)) for number in range(len(trees))]
    found = resolve(roots)
    assert len(found) == made
    check(found, base / "out")
    assert resolve(roots) == found
    assert resolve([*roots, roots[0], found[0].location]) == found


# Ids and shards


def listed(*names: str) -> list[ImageSource]:
    return [ImageSource(name, name) for name in names]


def test_image_ids() -> None:
    assert image_ids(listed("val/000000000139.jpg", "val/000000000285.jpg")) == {
        "val/000000000139.jpg": 139,
        "val/000000000285.jpg": 285,
    }
    assert list(image_ids(listed("7.jpg", "b.jpg")).values()) == [1, 2]
    assert list(image_ids(listed("a/7.jpg", "b/07.jpg")).values()) == [1, 2]
    assert list(image_ids(listed("²3.jpg", "4.jpg")).values()) == [1, 2]
    assert list(image_ids(listed("٣.jpg")).values()) == [1]
    assert list(image_ids(listed(f"{2**53 - 1}.jpg")).values()) == [2**53 - 1]
    assert list(image_ids(listed(f"{2**53}.jpg")).values()) == [1]
    assert list(image_ids(listed("9" * 5000)).values()) == [1]
    assert image_ids([]) == {}


@given(stems=st.lists(st.one_of(st.integers(0, 30).map(str), st.text("ab01", min_size=1)), unique=True))
def test_image_ids_are_unique(stems: list[str]) -> None:
    sources = listed(*(f"{stem}.jpg" for stem in stems))
    ids = image_ids(sources)
    assert list(ids) == [source.name for source in sources]
    assert len(set(ids.values())) == len(sources)


@given(size=st.integers(0, 200), total=st.integers(1, 40))
def test_every_image_is_in_exactly_one_shard(size: int, total: int) -> None:
    sources = tuple(listed(*map(str, range(size))))
    shards = [shard(sources, index, total) for index in range(1, total + 1)]
    assert sum(shards, ()) == sources
    sizes = [len(images) for images in shards]
    assert max(sizes) - min(sizes) <= 1


def test_shards_are_counted_from_one() -> None:
    assert parse_shard("1/1") == (1, 1)
    assert parse_shard("2/8") == (2, 8)
    for text in ("0/4", "5/4", "1/0", "-1/4", "1", "1/", "a/b", "1/4/5", " 1/4", "1.0/4", "", "٣/٤", "1/" + "9" * 5000):
        with pytest.raises(UsageError, match="2/8"):
            parse_shard(text)
    with pytest.raises(ValueError, match="shard 0 of 4"):
        shard([], 0, 4)
