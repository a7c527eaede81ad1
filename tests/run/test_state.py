"""What a run keeps of itself: damaged, missing, without secrets, and of another machine."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image as Pil
from support.runs import evsam, final_files, journal_of, noise_folder
from support.unprivileged import unprivileged

from pipelines.errors import SetupError, UsageError
from pipelines.files import make_folder
from pipelines.images.sources import ImageSource
from pipelines.names import is_safe
from pipelines.run.folder import RunFolder

BOX = ("--box", "5,5,60,60", "--device", "cpu", "--save", "jsonl,ids")
NESTED = "[" * 100_000


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return noise_folder(tmp_path / "photos", "01")


# Damage


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("settings.json", ("{", "[]", "5", '{"save": ["what"]}', "\xff", NESTED)),
        ("sources.json", ("{", "{}", "5", '["a"]', '[{"name": "a"}]', '[{"name": 5, "location": "a"}]', NESTED)),
        ("files.json", ("{", "[]", "5", NESTED)),
        ("machines.json", ("{", "{}", "[5]", NESTED)),
    ],
)
def test_damaged_state_is_named_in_one_line(name: str, contents: tuple[str, ...], photos: Path, tmp_path: Path) -> None:
    command = ("segment", photos, "-o", tmp_path / "out", *BOX)
    evsam(*command)
    journal_of(tmp_path / "out").write_text("")  # so that there is something left to do
    for content in contents:
        (tmp_path / "out/.evsam" / name).write_text(content, "latin-1")
        _, err = evsam(*command, "--resume", code=2)
        assert f"{name} is damaged: delete" in err and len(err.splitlines()) == 1 and len(err) < 1000


def test_a_journal_without_settings_is_of_no_run(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evsam("segment", photos, "-o", out, *BOX)
    (out / ".evsam/settings.json").unlink()
    for options in (("--resume",), ()):
        _, err = evsam("segment", photos, "-o", out, *BOX[2:], "--box", "1,1,9,9", *options, code=2)
        assert "settings.json is missing" in err and "--overwrite" in err and len(err.splitlines()) == 1
    evsam("segment", photos, "-o", out, *BOX[2:], "--box", "1,1,9,9", "--overwrite")
    evsam("segment", photos, "-o", tmp_path / "fresh", *BOX[2:], "--box", "1,1,9,9")
    assert final_files(out) == final_files(tmp_path / "fresh")


def test_a_run_that_starts_anew_and_is_killed_has_nothing_finished(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, overwrite=True)
    folder.begin(folder.plan({"save": ["ids"]}, [ImageSource("a", "a")]))
    journal_of(tmp_path).write_text("something finished\n")
    (tmp_path / "run.json").touch()
    (tmp_path / "ids").mkdir()

    def killed(folder: Path, **_: object) -> None:
        if folder.name == "ids":
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        folder.begin(folder.plan({"save": ["ids"]}, []))
    assert {path.name for path in tmp_path.iterdir()} == {".evsam", "ids"}
    assert {path.name for path in (tmp_path / ".evsam").iterdir()} >= {"settings.json", "sources.json"}
    assert not journal_of(tmp_path).exists()
    folder.begin(folder.plan({"save": ["ids"]}, []))
    assert {path.name for path in tmp_path.iterdir()} == {".evsam"}


def test_a_run_that_came_in_after_the_plan_is_told(tmp_path: Path) -> None:
    folder, other = RunFolder(tmp_path, resume=True), RunFolder(tmp_path)
    plan = folder.plan({}, [ImageSource("a", "a")])
    with folder.hold(plan):
        pass
    other.begin(other.plan({}, [ImageSource("b", "b")]))
    with pytest.raises(UsageError, match=r"another run has been in .* just now"), folder.hold(plan):
        pass
    with folder.hold(folder.plan({}, plan.sources)):
        pass


# Folders that cannot be made


@pytest.mark.parametrize("part", ["d", "a-longer-name"])
def test_an_output_2000_folders_deep(part: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, err = evsam("segment", photos, "-o", "/".join([part] * 2040), *BOX, code=2)
    assert "a path gets too long" in err and len(err.splitlines()) == 1 and len(err) < 1000
    assert not (tmp_path / part).exists(), "nothing half made"


@pytest.mark.parametrize(
    "command",
    [
        ("train", "finetune", "--recipe", "starter", "--data", "set", "--device", "cpu"),
        ("train", "detector", "--data", "set", "--val", "set", "--device", "cpu"),
        ("export", "evsam-starter", "--format", "onnx"),
        ("benchmark", "evsam-starter", "--device", "cpu"),
    ],
)
def test_what_is_no_run_2000_folders_deep(command: tuple[str, ...], photos: Path, here: Path) -> None:
    (here / "set/masks").mkdir(parents=True)
    photos.rename(here / "set/images")
    for i in range(2):
        Pil.new("L", (96, 96), 255).save(here / f"set/masks/{i}.png")
    _, err = evsam(*command, "-o", "/".join(["d"] * 2040), code=2)
    assert "a path gets too long" in err or "File name too long" in err
    assert "Traceback" not in err and len(err) < 5000
    assert not (here / "d").exists(), "nothing half made"


def test_a_run_that_has_not_begun_cannot_be_resumed(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    _, err = evsam("segment", photos, "-o", tmp_path / "file/out", *BOX, code=2)
    assert "cannot write to" in err and "--resume" not in err
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    with unprivileged(), pytest.raises(SetupError, match=r"permission denied$"):
        make_folder(locked / "a/b", inner=locked / "a/b/c")
    assert not list(locked.iterdir())


# Secrets


@pytest.fixture
def server(photos: Path) -> Iterator[str]:
    """http://user:password@host of a server that has the first photo for those who know the token, else the second."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write((photos / f"{int('t0ken' not in self.path)}.png").read_bytes())

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://me:hunter2@127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def secrets(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(secret in path.read_bytes() for secret in (b"hunter2", b"t0ken"))]


def test_secrets_of_urls_are_kept_nowhere(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EVSAM_OFFLINE", "0")
    url, listed, out = f"{server}/a.png?token=t0ken", tmp_path / "list.txt", tmp_path / "out"
    listed.write_text(f"{server}/b.png?token=t0ken#part\n")
    command = ("segment", url, listed, "-o", out, *BOX)
    printed = evsam(*command)
    info = json.loads((out / "run.json").read_text())
    assert info["sources"][0] == f"http://{server.partition('@')[2]}/a.png" and info["images"]["done"] == 2
    printed += evsam(*command, "--resume")
    assert "2 already finished" in printed[-1] and not secrets(out)
    printed += evsam(*command, "--resume", "--offline", code=2)
    printed += evsam("segment", listed, url.replace("127", "128.127"), "-o", out, *BOX, "--resume", code=2)
    assert "would be called" in printed[-1]
    assert not any(secret in text for text in printed for secret in ("hunter2", "t0ken"))


def test_a_url_that_is_named_no_more_is_not_fetched_without_its_secrets(server: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVSAM_OFFLINE", "0")
        patch.setenv("no_proxy", "127.0.0.1")
        url, other, out = f"{server}/a.png?token=t0ken", f"{server}/b.png?token=t0ken", tmp_path / "out"
        evsam("segment", other, url, "-o", out, *BOX)
        done = final_files(out)
        journal = journal_of(out)
        whole = journal.read_text()
        evsam("segment", other, "-o", out, *BOX, "--resume")
        assert final_files(out) == done, "what is finished stays"
        journal.write_text("".join(line for line in whole.splitlines(keepends=True) if '"a.png"' not in line))
        evsam("segment", other, "-o", out, *BOX, "--resume", code=1)
        reason = json.loads((out / "run.json").read_text())["failed"]["a.png"]
        assert "its URL is no more among the sources" in reason and not (out / "ids/a.png").exists()
        evsam("segment", other, url.replace("t0ken", "wrong"), "-o", out, *BOX, "--resume")
        assert final_files(out) != done, "another URL, another image"
        evsam("segment", other, url, "-o", out, *BOX, "--resume")
        assert final_files(out) == done


def test_urls_of_other_schemes_are_refused_without_their_secrets(tmp_path: Path) -> None:
    url = "ftp://me:hunter2@box.example/a.jpg?token=t0ken"
    (tmp_path / "list.txt").write_text(f"{url}\n")
    for source in (url, tmp_path / "list.txt"):
        _, err = evsam("segment", source, "-o", tmp_path / "out", *BOX, code=2)
        assert "ftp://box.example/a.jpg" in err and "hunter2" not in err and "t0ken" not in err


def test_sources_as_they_are_kept() -> None:
    plain = [ImageSource("a", "photos/a.jpg"), ImageSource("a", "http://h/a.jpg")]
    assert [source.kept() for source in plain] == plain
    one, other = (ImageSource("a", f"http://h/a.jpg?token={token}").kept() for token in (1, 2))
    assert one.location == other.location == "http://h/a.jpg" and one.sha256 != other.sha256
    assert one.kept() == one


@pytest.mark.parametrize(
    ("name", "safe"),
    [("a.jpg", True), ("a/b c/ü.jpg", True), ("x" * 300, True), ("", False), ("/a", False), ("a//b", False)]
    + [(name, False) for name in ("..", "a/../b", ".", "C:a", "..\\a", "a\nb", "a/", "a/. ")],
)
def test_names_that_leave_no_folder(name: str, safe: bool) -> None:
    assert is_safe(name) == safe


# Machines


def test_a_run_resumed_with_other_threads_says_so(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evsam("segment", photos, "-o", out, *BOX)
    machines, journal = out / ".evsam/machines.json", journal_of(out)
    (machine,) = json.loads(machines.read_text())
    machines.write_text(json.dumps([{**machine, "threads": 96, "torch": "1.0"}]))
    (out / "run.json").unlink()
    _, err = evsam("segment", photos, "-o", out, *BOX, "--resume")
    assert "alike" not in err, "nothing was left to do"
    journal.write_text(journal.read_text().splitlines(keepends=True)[0])
    note = f"(threads: 96, {machine['threads']}; torch: 1.0, {machine['torch']})"
    for _ in range(2):
        _, err = evsam("segment", photos, "-o", out, *BOX, "--resume")
        assert f"note: not all of this run was made alike {note}" in err
    assert note in str(json.loads((out / "run.json").read_text())["notes"])
    evsam("segment", photos, "-o", out, *BOX, "--overwrite")
    assert json.loads(machines.read_text()) == [machine]


def test_machines_are_kept_once_each(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(folder.plan({}, []))
    assert folder.add_machines([]) == []
    assert folder.add_machines([{"threads": 1}, {"threads": 1}]) == []
    (note,) = folder.add_machines([{"threads": 1, "gpu": "T"}])
    assert "(gpu: unknown, T)" in note
    assert folder.machines() == [{"threads": 1}, {"threads": 1, "gpu": "T"}]
