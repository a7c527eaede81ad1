"""The weights room against a real server that misbehaves, real processes, and files from strangers."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback_hub import Hub, Reply, running

from pipelines.errors import EvsamError, SetupError, UnknownNameError, UsageError, WeightsError
from weights import digest, download, manifest, store

BODY = random.Random(0).randbytes(300_000)
SHA = hashlib.sha256(BODY).hexdigest()
OTHER = random.Random(1).randbytes(300_000)
ROOT = Path(__file__).parent.parent


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running(BODY) as hub:
        yield hub


class Shelf:
    """A manifest and an empty cache of the test's own."""

    def __init__(self, folder: Path, hub: Hub) -> None:
        self.manifest = folder / "manifest.toml"
        self.home = folder / "home"
        self.hub = hub
        self.manifest.write_text("")

    def add(self, name: str = "net", **fields: object) -> Path:
        """Add a row; return where the cache will have its file."""
        row = {"name": name, "model": "Net", "licence": "MIT", "source": "https://net.example"}
        row |= {"url": f"{self.hub.url}/a/{name}.pt"} if "bundled" not in fields else {}
        row |= fields
        lines = [f"{key} = {json.dumps(value)}" for key, value in row.items()]
        self.manifest.write_text(self.manifest.read_text() + "\n".join(["[[file]]", *lines, ""]))
        manifest.rows.cache_clear()
        url = str(row.get("url", ""))
        return self.home / "weights" / name / url.rpartition("/")[2]

    def script(self, code: str) -> list[str]:
        """A command that runs `code` in a process of its own, with this manifest."""
        setup = "import weights.manifest; from pathlib import Path; from weights import store\n"
        setup += f"weights.manifest.MANIFEST = Path({str(self.manifest)!r})\n"
        return [sys.executable, "-c", setup + code]


@pytest.fixture
def shelf(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path, hub)
    for name in ("EVSAM_OFFLINE", "EVSAM_MIRROR", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EVSAM_HOME", str(shelf.home))
    monkeypatch.setattr(manifest, "MANIFEST", shelf.manifest)
    monkeypatch.setattr(download, "BACKOFF", 0.0)
    manifest.rows.cache_clear()
    yield shelf
    manifest.rows.cache_clear()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def refused(name: str = "net", kind: type[EvsamError] = WeightsError) -> str:
    """Fetch `name`, which must fail; return its message, which must be one line."""
    with pytest.raises(kind) as caught:
        store.fetch(name, offline=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


# --- the network, when it works -------------------------------------------------------------------------------------


def test_fetch_downloads_once(shelf: Shelf, hub: Hub) -> None:
    path = shelf.add(sha256=SHA, bytes=len(BODY))
    seen: list[tuple[int, int]] = []
    assert store.locate("net") is None and store.state("net") == "missing"
    assert store.fetch("net", progress=lambda done, total: seen.append((done, total))) == path
    assert path.read_bytes() == BODY
    assert store.fetch("net") == store.fetch("net", offline=True) == store.locate("net") == path
    assert store.state("net") == "cached" and len(hub.requests) == 1
    assert seen == sorted(seen) and seen[0] == (0, len(BODY)) and seen[-1] == (len(BODY), len(BODY))
    assert store.verify("net") == [store.Verified(path, SHA, "manifest")]
    assert digest.fingerprint(path) == SHA
    assert not list(path.parent.glob("*.part*"))


def test_a_name_of_several_files(shelf: Shelf, hub: Hub) -> None:
    paths = [shelf.add(url=f"{hub.url}/a/{part}") for part in ("model.safetensors", "vocab.txt", "config.json")]
    hub.replies += [Reply(), Reply(body=b"words"), Reply(status=404)]
    refused()
    assert store.locate("net") is None and store.state("net") == "missing"
    hub.replies += [Reply(body=b"{}")]
    assert store.fetch("net") == paths[0] == store.locate("net")
    assert [path.read_bytes() for path in paths] == [BODY, b"words", b"{}"]
    assert [path for path, _ in hub.requests] == [f"/a/{path.name}" for path in (*paths, paths[2])]


def test_mirror_takes_the_place_of_scheme_and_host(shelf: Shelf, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.add(url="https://hub.invalid/a/b/resolve/main/c.pt?download=true")
    monkeypatch.setenv("EVSAM_MIRROR", f"{hub.url}/mirror/")
    store.fetch("net")
    assert [path for path, _ in hub.requests] == ["/mirror/a/b/resolve/main/c.pt?download=true"]


@pytest.mark.parametrize("mirror", ["ftp://box/hub", "box:8000", "/srv/hub", "http://"])
def test_mirror_must_be_a_web_address(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
    shelf.add()
    monkeypatch.setenv("EVSAM_MIRROR", mirror)
    assert "EVSAM_MIRROR" in refused(kind=UsageError)


def test_proxy_is_respected(shelf: Shelf, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.add(url="http://hub.invalid/c.pt")
    monkeypatch.setenv("http_proxy", hub.url)
    store.fetch("net")
    assert [path for path, _ in hub.requests] == ["http://hub.invalid/c.pt"]


# --- the network, when it does not ----------------------------------------------------------------------------------


def test_a_cut_download_goes_on_where_it_was(shelf: Shelf, hub: Hub) -> None:
    path = shelf.add(sha256=SHA)
    hub.replies += [Reply(send=200_000), Reply(send=50_000)]
    assert store.fetch("net").read_bytes() == BODY
    first, second, third = hub.ranges()
    assert first is None and second is not None and third is not None
    assert 100_000 < int(second[6:-1]) <= 200_000 < int(third[6:-1])
    assert {headers["If-Range"] for _, headers in hub.requests[1:]} == {'"first"'}
    assert path.exists()


def test_a_failed_download_is_resumed_by_the_next_call(shelf: Shelf, hub: Hub) -> None:
    path = shelf.add(sha256=SHA)
    hub.replies += [Reply(send=100_000), *[Reply(send=0)] * (download.ATTEMPTS - 1)]
    message = refused()
    assert "cut" in message and "run the command again" in message
    assert len(hub.requests) == download.ATTEMPTS and not path.exists() and store.locate("net") is None
    assert store.fetch("net").read_bytes() == BODY
    resumed = hub.ranges()[-1]
    assert resumed is not None and int(resumed[6:-1]) > 0


def test_last_modified_serves_where_there_is_no_etag(shelf: Shelf, hub: Hub) -> None:
    shelf.add(sha256=SHA)
    date = {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
    hub.replies += [Reply(etag=None, headers=date, send=100_000), Reply(etag=None, ranges="blind")]
    assert store.fetch("net").read_bytes() == BODY
    assert hub.requests[1][1]["If-Range"] == date["Last-Modified"]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_it_starts_over(shelf: Shelf, hub: Hub, etag: str | None) -> None:
    shelf.add(sha256=SHA)
    hub.replies += [Reply(etag=etag, send=100_000)]
    assert store.fetch("net").read_bytes() == BODY
    assert hub.ranges() == [None, None]


def test_a_server_without_ranges_starts_over(shelf: Shelf, hub: Hub) -> None:
    shelf.add(sha256=SHA)
    hub.replies += [Reply(send=100_000), Reply(ranges="no")]
    assert store.fetch("net").read_bytes() == BODY


@pytest.mark.parametrize("ranges", ["checked", "blind"])
def test_a_file_changed_between_attempts_is_taken_whole(shelf: Shelf, hub: Hub, ranges: str) -> None:
    shelf.add()
    hub.replies += [Reply(send=100_000)]
    hub.usual = Reply(body=OTHER, etag='"second"', ranges=ranges)
    assert store.fetch("net").read_bytes() == OTHER


@pytest.mark.parametrize(
    "wrong", [Reply(ranges="shifted"), Reply(ranges="refused"), Reply(body=BODY[:150_000], ranges="blind")]
)
def test_a_wrong_range_is_not_joined(shelf: Shelf, hub: Hub, wrong: Reply) -> None:
    shelf.add()
    hub.replies += [Reply(send=100_000)]
    hub.usual = wrong
    assert store.fetch("net").read_bytes() == (wrong.body or BODY)


def test_a_silent_server_is_left_and_asked_again(shelf: Shelf, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.add(sha256=SHA)
    monkeypatch.setattr(download, "TIMEOUT", (0.2, 0.2))
    hub.replies += [Reply(pause=0.6)]
    assert store.fetch("net").read_bytes() == BODY
    assert len(hub.requests) == 2 and hub.ranges()[1] is not None


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_passing_refusal_is_tried_again(shelf: Shelf, hub: Hub, status: int) -> None:
    shelf.add(sha256=SHA)
    hub.replies += [Reply(status=status, body=b"later"), Reply(status=status, body=b"later")]
    assert store.fetch("net").read_bytes() == BODY


def test_a_lasting_refusal_is_told(shelf: Shelf, hub: Hub) -> None:
    shelf.add()
    hub.usual = Reply(status=503, body=b"no")
    assert "answered 503" in refused() and len(hub.requests) == download.ATTEMPTS


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_final_refusal_is_told_at_once(shelf: Shelf, hub: Hub, status: int) -> None:
    shelf.add()
    hub.usual = Reply(status=status, body=b"no")
    message = refused()
    assert f"answered {status}" in message and f"{hub.url}/a/net.pt" in message and len(hub.requests) == 1


def test_corrupt_bytes_are_refused(shelf: Shelf, hub: Hub) -> None:
    path = shelf.add(sha256=SHA)
    hub.usual = Reply(body=BODY[:-1] + bytes([BODY[-1] ^ 1]))
    assert SHA in refused()
    assert sorted(item.name for item in path.parent.iterdir()) in ([], [".lock"])


def test_corrupt_bytes_from_an_earlier_call_are_replaced(shelf: Shelf, hub: Hub) -> None:
    shelf.add(sha256=SHA)
    hub.replies += [Reply(body=OTHER, send=100_000), *[Reply(send=0)] * (download.ATTEMPTS - 1)]
    refused()
    assert store.fetch("net").read_bytes() == BODY
    assert hub.ranges()[-1] is None


@pytest.mark.parametrize("claim", [len(BODY) // 2, len(BODY) * 2])
def test_a_length_other_than_known_is_refused(shelf: Shelf, hub: Hub, claim: int) -> None:
    path = shelf.add(bytes=len(BODY))
    hub.usual = Reply(claim=claim)
    message = refused()
    assert str(claim) in message and str(len(BODY)) in message and len(hub.requests) == 1
    assert not path.exists()


def test_a_length_that_is_never_reached_is_refused(shelf: Shelf, hub: Hub) -> None:
    path = shelf.add()
    hub.usual = Reply(claim=len(BODY) * 2, ranges="no")
    assert "cut" in refused()
    assert not path.exists()


def chunked(body: bytes) -> Reply:
    framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:1000], body[1000:])) + b"0\r\n\r\n"
    return Reply(body=framed, headers={"Transfer-Encoding": "chunked"})


def test_a_stream_of_untold_length_needs_a_known_size(shelf: Shelf, hub: Hub) -> None:
    shelf.add("known", bytes=len(BODY))
    shelf.add("unknown")
    hub.usual = chunked(BODY)
    assert store.fetch("known").read_bytes() == BODY
    assert "how large" in refused("unknown")
    shelf.add("endless", bytes=len(BODY))
    hub.usual = chunked(BODY + OTHER)
    seen: list[int] = []
    with pytest.raises(WeightsError, match="more than"):
        store.fetch("endless", progress=lambda done, _: seen.append(done))
    assert max(seen) <= len(BODY)


@pytest.mark.parametrize("headers", [{"Content-Type": "text/html; charset=utf-8"}, {"Content-Encoding": "gzip"}])
def test_a_log_in_page_is_refused(shelf: Shelf, hub: Hub, headers: dict[str, str]) -> None:
    path = shelf.add()
    hub.usual = Reply(headers=headers)
    assert "log-in page" in refused()
    assert not path.exists()


def test_redirects_lead_to_the_web_only(shelf: Shelf, hub: Hub) -> None:
    shelf.add(sha256=SHA)
    hub.replies += [Reply(status=302, body=b"", headers={"Location": "/elsewhere"})]
    assert store.fetch("net").read_bytes() == BODY
    shelf.add("astray")
    for place in ("file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x"):
        hub.replies += [Reply(status=302, body=b"", headers={"Location": place})]
        refused("astray")
    hub.usual = Reply(status=302, body=b"", headers={"Location": "/again"})
    assert "redirects" in refused("astray")


def test_no_server_and_no_such_host(shelf: Shelf) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        shelf.add("closed", url=f"http://127.0.0.1:{unused.getsockname()[1]}/x.pt")
        assert "no connection" in refused("closed")
    shelf.add("nowhere", url="http://nowhere.invalid/x.pt")
    assert "nowhere.invalid is unknown" in refused("nowhere")


faults = st.sampled_from(
    [
        Reply(send=0),
        Reply(send=70_000),
        Reply(send=200_000, ranges="no"),
        Reply(ranges="shifted"),
        Reply(status=500, body=b""),
        Reply(status=416, body=b""),
        Reply(body=OTHER, send=150_000),
        Reply(body=OTHER, etag='"second"'),
        Reply(body=OTHER, etag='"second"', send=90_000, ranges="blind"),
        Reply(claim=400_000),
        Reply(status=404, body=b""),
    ]
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(replies=st.lists(faults, max_size=8))
def test_no_sequence_of_faults_gives_a_wrong_file(
    shelf: Shelf, hub: Hub, tmp_path_factory: pytest.TempPathFactory, replies: list[Reply]
) -> None:
    path = tmp_path_factory.mktemp("any") / "net.pt"
    source = download.Source(f"{hub.url}/net.pt", sha256=SHA)
    hub.replies.clear()
    hub.replies += replies
    for _ in range(len(replies) + 1):
        try:
            assert download.download(source, path) == SHA
            break
        except WeightsError:
            assert not path.exists()
    assert path.read_bytes() == BODY and [item.name for item in path.parent.iterdir()] == ["net.pt"]


# --- what the hub says of its file ----------------------------------------------------------------------------------


def linked(body: bytes, **more: str) -> Reply:
    """A Hugging Face hub's redirect to the storage of a large file."""
    headers = {"Location": "/storage", "X-Linked-Etag": f'"{hashlib.sha256(body).hexdigest()}"'}
    return Reply(status=302, body=b"", etag=None, headers=headers | more)


def test_the_hubs_hash_is_checked_and_locked(shelf: Shelf, hub: Hub) -> None:
    path = shelf.add()
    hub.replies += [linked(BODY, **{"X-Linked-Size": str(len(BODY))})]
    store.fetch("net")
    assert json.loads((path.parent / "net.pt.lock.json").read_text())["sha256"] == SHA
    assert store.verify("net") == [store.Verified(path, SHA, "lock")]

    path.unlink()
    hub.usual = Reply(body=OTHER)
    assert SHA in refused()  # the lock outlives the file
    hub.replies += [linked(OTHER)]
    assert SHA in refused()
    (path.parent / "net.pt.lock.json").unlink()
    assert store.fetch("net").read_bytes() == OTHER


def test_the_hubs_hash_must_fit(shelf: Shelf, hub: Hub) -> None:
    path = shelf.add("damaged")
    hub.replies += [linked(OTHER), Reply(), linked(OTHER), Reply()]
    assert "sha256" in refused("damaged") and not path.exists()

    shelf.add("replaced", sha256=SHA)
    asked = len(hub.requests)
    hub.replies += [linked(OTHER), Reply(send=0)]
    assert SHA in refused("replaced")
    assert len(hub.requests) == asked + 2 and not list(path.parent.parent.glob("*/*.part"))

    shelf.add("resized")
    hub.replies += [linked(BODY, **{"X-Linked-Size": "12"})]
    assert f"12 and {len(BODY)} bytes" in refused("resized")


def test_the_hubs_hash_outlasts_a_cut(shelf: Shelf, hub: Hub) -> None:
    shelf.add()
    damaged = BODY[:150_000] + OTHER[150_000:]
    hub.replies += [linked(BODY), Reply(body=damaged, send=200_000), Reply()]  # the third tells no hash
    assert store.fetch("net").read_bytes() == BODY


def test_a_strong_etag_of_64_hex_digits_is_a_hash(shelf: Shelf, hub: Hub) -> None:
    shelf.add()
    hub.usual = Reply(etag=f'"{hashlib.sha256(OTHER).hexdigest()}"')
    assert SHA in refused()
    hub.usual = Reply(etag=f'"{SHA}"')
    assert store.fetch("net").read_bytes() == BODY


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
