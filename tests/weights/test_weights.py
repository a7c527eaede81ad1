"""The weights room: every row of the manifest, the cache, real processes, and files from strangers."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from support.loopback_hub import Hub, Reply
from support.unprivileged import unprivileged
from support.weights_shelf import BODY, OTHER, ROOT, SHA, Shelf, refused

from pipelines.errors import SetupError, UnknownNameError, WeightsError
from weights import manifest, places, store

# --- the manifest ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", manifest.rows(), ids=lambda file: f"{file.name}/{file.filename}")
def test_every_row_is_complete(file: manifest.WeightsFile) -> None:
    assert file.name and file.model
    free = {"Apache-2.0", "AGPL-3.0", "MIT", "BSD-3-Clause"}
    assert file.licence in free if file.terms is None else file.licence.startswith("LicenseRef-")
    assert (file.url is None) != (file.bundled is None)
    assert file.filename and Path(file.filename).name == file.filename
    assert [file.filename for file in manifest.files(file.name)].count(file.filename) == 1
    if file.url:
        assert file.url.startswith("https://") and file.source.startswith("https://")
        assert file.bytes or file.about_bytes
    if file.sha256:
        assert len(file.sha256) == 64 and int(file.sha256, 16)
    if file.bundled:
        assert manifest.files(file.name) == (file,) and file.sha256


@pytest.mark.parametrize("name", manifest.names())
def test_every_name_is_fetched_or_says_how_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    monkeypatch.setenv("EVSAM_HOME", str(tmp_path))
    first = manifest.files(name)[0]
    if first.bundled and (places.BUNDLED / first.bundled).exists():
        assert store.fetch(name, offline=True) == places.BUNDLED / first.bundled
        assert store.state(name) == "bundled"
        verified = store.verify(name)  # a bundled file that is changed needs its new sha256 in the manifest
        assert [(file.path, file.against) for file in verified] == [(places.BUNDLED / first.bundled, "manifest")]
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
    assert str(path) in message and "`evsam weights pull --force net` fetches it anew" in message
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
    monkeypatch.setattr(places, "BUNDLED", tmp_path / "bundled")
    shelf.add(bundled="starter.pt", sha256=SHA)
    assert "install evsam again" in refused()
    (tmp_path / "bundled").mkdir()
    (tmp_path / "bundled" / "starter.pt").write_bytes(BODY)
    assert store.fetch("net") == store.locate("net") == tmp_path / "bundled" / "starter.pt"
    assert store.state("net") == "bundled"
    assert store.verify("net") == [store.Verified(store.fetch("net"), SHA, "manifest")]
    assert not shelf.home.exists() and len(list(places.BUNDLED.iterdir())) == 1
    (tmp_path / "bundled" / "starter.pt").write_bytes(OTHER)
    with pytest.raises(WeightsError, match="install evsam again"):
        store.verify("net")


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


@pytest.mark.parametrize(("value", "told"), [("~nosuchuser/x", "no such user"), ("/" + "x" * 5000, "too long")])
def test_a_cache_that_cannot_be(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, value: str, told: str) -> None:
    shelf.add()
    monkeypatch.setenv("EVSAM_HOME", value)
    message = refused(kind=SetupError)
    assert told in message and "EVSAM_HOME" in message


@pytest.mark.skipif(sys.platform == "win32", reason="needs file modes")
def test_a_cached_file_that_cannot_be_read(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    name = shelf.add().name
    with tempfile.TemporaryDirectory() as home:
        path = Path(home, "weights", "net", name)
        path.parent.mkdir(parents=True)
        path.write_bytes(BODY)
        path.chmod(0)
        Path(home).chmod(0o755)
        monkeypatch.setenv("EVSAM_HOME", home)
        assert store.state("net") == "unverified"
        with unprivileged():
            assert store.state("net") == "unverified"
            assert str(path) in refused(kind=SetupError)
            with pytest.raises(SetupError, match="cannot read"):
                store.verify("net")
        store.fetch("net")  # which locks it
        with unprivileged():
            assert str(path) in refused(kind=SetupError)


@pytest.mark.skipif(sys.platform == "win32", reason="needs file modes")
def test_a_cache_that_cannot_be_written(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.add()
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o555)
        monkeypatch.setenv("EVSAM_HOME", home)
        assert store.state("net") == "missing"
        with unprivileged():
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
    hub.usual = Reply(pause="body")
    command = shelf.script("print('asks', flush=True); print(store.fetch('net'))")
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.stdout.readline() for process in both if process.stdout] == ["asks\n"] * 2
    hub.go_on.set()
    assert [process.communicate()[0].strip() for process in both] == [str(path)] * 2
    assert [process.returncode for process in both] == [0, 0]
    assert len(hub.requests) == 1 and path.read_bytes() == BODY


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_download_is_resumed(shelf: Shelf, hub: Hub) -> None:
    path = shelf.add(sha256=SHA)
    hub.replies += [Reply(pause="body")]
    part = path.with_name("net.pt.part")
    with subprocess.Popen(shelf.script("store.fetch('net')"), cwd=ROOT) as process:
        while process.poll() is None and not (part.exists() and part.stat().st_size > 100_000):
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not path.exists() and store.locate("net") is None
    assert store.fetch("net").read_bytes() == BODY
    assert hub.ranges()[1] is not None
