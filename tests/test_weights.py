"""The weights room: every row of the manifest, the cache, real processes, and files from strangers."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from loopback_hub import Hub, Reply
from weights_shelf import BODY, OTHER, ROOT, SHA, Shelf, refused

from pipelines.errors import SetupError, UnknownNameError, UsageError, WeightsError
from weights import manifest, store

# --- the manifest ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", manifest.rows(), ids=lambda file: f"{file.name}/{file.filename}")
def test_every_row_is_complete(file: manifest.WeightsFile) -> None:
    assert file.name and file.model
    assert file.licence in {"Apache-2.0", "AGPL-3.0", "MIT", "BSD-3-Clause"}
    assert (file.url is None) != (file.bundled is None)
    assert file.filename and Path(file.filename).name == file.filename
    assert [file.filename for file in manifest.files(file.name)].count(file.filename) == 1
    if file.url:
        assert file.url.startswith("https://") and file.source.startswith("https://")
        assert file.bytes or file.about_bytes
    if file.sha256:
        assert len(file.sha256) == 64 and int(file.sha256, 16)
    if file.bundled:
        assert manifest.files(file.name) == (file,)


@pytest.mark.parametrize("name", manifest.names())
def test_every_name_is_fetched_or_says_how_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    monkeypatch.setenv("EVSAM_HOME", str(tmp_path))
    first = manifest.files(name)[0]
    if first.bundled and (store.BUNDLED / first.bundled).exists():
        assert store.fetch(name, offline=True) == store.BUNDLED / first.bundled
        assert store.state(name) == "bundled"
        assert [file.path for file in store.verify(name)] == [store.BUNDLED / first.bundled]
        return
    assert store.state(name) == "missing" and store.locate(name) is None
    with pytest.raises(WeightsError, match=name):
        store.fetch(name, offline=True)
    with pytest.raises(WeightsError, match=name):
        store.verify(name)


def test_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match="yolov8n"):
        store.fetch("yolov8")


# --- the cache ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [{}, {"sha256": SHA}, {"bytes": len(BODY)}])
def test_a_cached_file_that_changed_is_told_and_kept(shelf: Shelf, known: dict[str, object]) -> None:
    path = shelf.add(**known)
    store.fetch("net")
    path.write_bytes(BODY[:1000])
    message = refused()
    assert str(path) in message and "evsam weights pull net" in message
    with pytest.raises(WeightsError):
        store.verify("net")
    assert path.read_bytes() == BODY[:1000]
    path.unlink()
    assert store.fetch("net").read_bytes() == BODY


def test_verify_reads_what_fetch_takes_on_trust(shelf: Shelf) -> None:
    path = shelf.add(sha256=SHA)
    store.fetch("net")
    times = path.stat()
    path.write_bytes(OTHER)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.fetch("net") == path
    with pytest.raises(WeightsError, match=SHA):
        store.verify("net")


@pytest.mark.parametrize("known", [{"sha256": SHA}, {"bytes": len(BODY)}])
def test_a_file_put_there_by_hand_is_checked(shelf: Shelf, no_network: None, known: dict[str, object]) -> None:
    path = shelf.add(**known)
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    assert store.fetch("net") == path
    path.unlink()
    (path.parent / "net.pt.lock.json").unlink()
    path.write_bytes(OTHER[:-1])
    assert "instead of" in refused()


def test_a_new_manifest_hash_overrules_the_lock(shelf: Shelf) -> None:
    shelf.add()
    store.fetch("net")
    shelf.manifest.write_text("")
    shelf.add(sha256=hashlib.sha256(OTHER).hexdigest())
    assert SHA in refused()


def test_bundled_files(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None) -> None:
    monkeypatch.setattr(store, "BUNDLED", tmp_path / "bundled")
    shelf.add(bundled="starter.safetensors")
    assert "install evsam again" in refused()
    (tmp_path / "bundled").mkdir()
    (tmp_path / "bundled" / "starter.safetensors").write_bytes(BODY)
    assert store.fetch("net") == store.locate("net") == tmp_path / "bundled" / "starter.safetensors"
    assert store.state("net") == "bundled"
    assert store.verify("net") == [store.Verified(store.fetch("net"), SHA, None)]
    assert not shelf.home.exists() and len(list(store.BUNDLED.iterdir())) == 1


@pytest.mark.parametrize("value", ["1", "true", "YES", "on", "anything"])
def test_offline_says_what_is_missing_and_how_to_get_it(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, no_network: None, value: str
) -> None:
    path = shelf.add()
    monkeypatch.setenv("EVSAM_OFFLINE", value)
    assert store.is_offline()
    with pytest.raises(WeightsError) as caught:
        store.fetch("net")
    message = str(caught.value)
    for part in (str(path), "`evsam weights pull net`", "`evsam weights import net.pt --as net`", shelf.hub.url):
        assert part in message
    assert "\n" not in message and not shelf.home.exists()


@pytest.mark.parametrize("value", ["", "0", "false", "No", "off"])
def test_offline_can_be_said_off(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    shelf.add()
    monkeypatch.setenv("EVSAM_OFFLINE", value)
    store.fetch("net")
    monkeypatch.setenv("EVSAM_OFFLINE", "1")
    assert store.fetch("net", offline=False)


def test_home_is_the_users_cache_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVSAM_HOME", raising=False)
    assert store.home().is_absolute() and store.home().name == "evsam"
    monkeypatch.setenv("EVSAM_HOME", "~/weights here")
    assert store.home() == Path.home() / "weights here"


def test_a_cache_that_cannot_be_made(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.add()
    (tmp_path / "file").touch()
    monkeypatch.setenv("EVSAM_HOME", str(tmp_path / "file"))
    assert "EVSAM_HOME" in refused(kind=SetupError)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_cache_that_cannot_be_written(shelf: Shelf) -> None:
    shelf.add()
    shelf.home.mkdir(mode=0o500)
    assert "EVSAM_HOME" in refused(kind=SetupError)


def test_too_little_space_is_seen_before_the_download(shelf: Shelf, hub: Hub) -> None:
    path = shelf.add()
    hub.usual = Reply(claim=1 << 60)
    assert "no space left" in refused(kind=SetupError)
    assert not path.exists() and len(hub.requests) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_a_disk_that_fills_up(shelf: Shelf) -> None:
    path = shelf.add()
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); store.fetch('net')"
    done = subprocess.run(shelf.script(code), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "SetupError: no space left in" in done.stderr
    assert not path.exists()
    assert store.fetch("net").read_bytes() == BODY


def test_two_processes_share_one_download(shelf: Shelf, hub: Hub) -> None:
    path = shelf.add(sha256=SHA)
    hub.usual = Reply(pause=1.0)
    command = shelf.script("print(store.fetch('net'))")
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == [str(path)] * 2
    assert [process.returncode for process in both] == [0, 0]
    assert len(hub.requests) == 1 and path.read_bytes() == BODY


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_download_is_resumed(shelf: Shelf, hub: Hub) -> None:
    path = shelf.add(sha256=SHA)
    hub.replies += [Reply(pause=30.0)]
    part = path.with_name("net.pt.part")
    with subprocess.Popen(shelf.script("store.fetch('net')"), cwd=ROOT) as process:
        deadline = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size > 100_000) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not path.exists() and store.locate("net") is None
    assert store.fetch("net").read_bytes() == BODY
    assert hub.ranges()[1] is not None


# --- import ---------------------------------------------------------------------------------------------------------


def test_import_knows_a_file_by_its_name(shelf: Shelf, tmp_path: Path, no_network: None) -> None:
    path = shelf.add(sha256=SHA)
    shelf.add("other")
    (tmp_path / "net.pt").write_bytes(BODY)
    assert store.import_file(tmp_path / "net.pt") == path == store.fetch("net")
    (tmp_path / "mine.pt").write_bytes(OTHER)
    assert store.import_file(tmp_path / "mine.pt", "other") == store.fetch("other")
    assert store.verify("other")[0].against == "lock"
    assert (tmp_path / "net.pt").exists()


def test_import_refuses_the_wrong_file_and_keeps_the_right_one(shelf: Shelf, tmp_path: Path) -> None:
    path = shelf.add(sha256=SHA)
    store.fetch("net")
    before = sorted(path.parent.iterdir())
    (tmp_path / "net.pt").write_bytes(OTHER)
    with pytest.raises(WeightsError, match=SHA):
        store.import_file(tmp_path / "net.pt")
    assert path.read_bytes() == BODY and sorted(path.parent.iterdir()) == before


def test_import_asks_when_it_cannot_tell(shelf: Shelf, hub: Hub, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shelf.add(name, url=f"{hub.url}/{name}/model.pt")
        shelf.add(name, url=f"{hub.url}/{name}/vocab.txt")
    shelf.add("starter", bundled="starter.pt")
    (tmp_path / "vocab.txt").write_bytes(b"words")
    (tmp_path / "what.pt").write_bytes(BODY)
    for file, name, told in [
        ("vocab.txt", None, "--as NAME"),
        ("what.pt", None, "--as NAME"),
        ("what.pt", "one", "model.pt, vocab.txt"),
        ("what.pt", "starter", "package"),
        ("what.pt", "three", "unknown weights"),
        ("absent.pt", "two", "several files"),
    ]:
        with pytest.raises(UsageError, match=told):
            store.import_file(tmp_path / file, name)
    assert store.import_file(tmp_path / "vocab.txt", "two").read_bytes() == b"words"
    assert store.state("two") == "missing"


@pytest.mark.parametrize("what", ["folder", "absent"])
def test_import_of_no_file(shelf: Shelf, tmp_path: Path, what: str) -> None:
    shelf.add()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot read"):
        store.import_file(tmp_path / what, "net")
    assert store.state("net") == "missing"
