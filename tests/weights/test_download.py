"""Downloads from a real server that misbehaves: a wrong file is never kept, a cut one goes on where it was."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import socket
import zlib
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as safetensors
from support.loopback_hub import Hub, Reply
from support.weights_shelf import BODY, OTHER, SHA, Shelf, refused, torch_file

from pipelines.errors import UsageError, WeightsError
from weights import answers, digest, download, store

# --- the network, when it works -------------------------------------------------------------------------------------


def test_fetch_downloads_once(shelf: Shelf, hub: Hub) -> None:
    path = shelf.add(sha256=SHA, bytes=len(BODY))
    seen: list[tuple[int, int | None]] = []
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
    weights, words, config = safetensors({"a": torch.ones(3)}), b"a\n[UNK]\n", b'{"model_type": "net"}'
    hub.replies += [Reply(body=weights), Reply(body=words), Reply(status=404)]
    refused()
    assert store.locate("net") is None and store.state("net") == "missing"
    hub.replies += [Reply(body=config)]
    assert store.fetch("net") == paths[0] == store.locate("net")
    assert [path.read_bytes() for path in paths] == [weights, words, config]
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
    "wrong", [Reply(ranges="shifted"), Reply(ranges="refused"), Reply(body=torch_file(2, 150_000), ranges="blind")]
)
def test_a_wrong_range_is_not_joined(shelf: Shelf, hub: Hub, wrong: Reply) -> None:
    shelf.add()
    hub.replies += [Reply(send=100_000)]
    hub.usual = wrong
    assert store.fetch("net").read_bytes() == (wrong.body or BODY)


def test_a_silent_server_is_left_and_asked_again(shelf: Shelf, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def more_patience(_: float) -> None:
        hub.go_on.set()
        monkeypatch.setattr(answers, "TIMEOUT", (1800, 1800))

    shelf.add(sha256=SHA)
    monkeypatch.setattr(download, "sleep", more_patience)
    for patience in (0.2, 2, 20, 200):
        hub.go_on.clear()
        hub.requests.clear()
        hub.replies += [Reply(pause="body")]
        monkeypatch.setattr(answers, "TIMEOUT", (1800, patience))
        assert store.fetch("net", force=True).read_bytes() == BODY
        assert len(hub.requests) == 2
        if hub.ranges()[1]:  # if not, even the first half took this machine longer
            return
    pytest.fail("never resumed")


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
    assert str(claim) in message and str(len(BODY)) in message and len(hub.requests) == 1 and "another file" in message
    assert not path.exists()


def test_a_length_that_is_never_reached_is_refused(shelf: Shelf, hub: Hub) -> None:
    path = shelf.add()
    hub.usual = Reply(claim=len(BODY) * 2, ranges="no")
    assert "cut" in refused()
    assert not path.exists()


def chunked(body: bytes) -> Reply:
    framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:1000], body[1000:])) + b"0\r\n\r\n"
    return Reply(body=framed, headers={"Transfer-Encoding": "chunked"})


UNTOLD = Reply(claim=-1)
"""Ends when the connection does, and tells no length."""


def test_a_stream_of_untold_length(shelf: Shelf, hub: Hub) -> None:
    shelf.add("sized", bytes=len(BODY))
    shelf.add("hashed", sha256=SHA)
    shelf.add("unknown")
    for hub.usual in (chunked(BODY), UNTOLD):
        for name in ("sized", "hashed"):
            assert store.fetch(name, force=True).read_bytes() == BODY
    assert "how large" in refused("unknown")
    hub.usual = chunked(BODY)
    assert store.fetch("unknown").read_bytes() == BODY


def test_a_stream_that_does_not_end(shelf: Shelf, hub: Hub) -> None:
    shelf.add(bytes=len(BODY))
    shelf.add("hashed", sha256=SHA, about_bytes=1000)
    hub.usual = chunked(BODY + OTHER)
    seen: list[int] = []
    for name in ("net", "hashed"):
        with pytest.raises(WeightsError, match="more than"):
            store.fetch(name, progress=lambda done, _: seen.append(done))
    assert max(seen) <= len(BODY)


@pytest.mark.parametrize("reply", [UNTOLD, chunked(BODY), Reply(etag=None)])
def test_a_cut_stream_of_untold_length_starts_over(shelf: Shelf, hub: Hub, reply: Reply) -> None:
    shelf.add(sha256=SHA)
    hub.replies += [replace(reply, send=100_000)]
    hub.usual = reply
    assert store.fetch("net").read_bytes() == BODY
    assert hub.ranges() == [None, None]


@pytest.mark.parametrize("known", [{}, {"sha256": SHA}, {"bytes": len(BODY)}])
@pytest.mark.parametrize(("coding", "zipped"), [("gzip", gzip.compress(BODY)), ("deflate", zlib.compress(BODY))])
def test_a_compressed_answer_is_unpacked(
    shelf: Shelf, hub: Hub, known: dict[str, object], coding: str, zipped: bytes
) -> None:
    shelf.add(**known)
    hub.usual = Reply(body=zipped, headers={"Content-Encoding": coding})
    hub.replies += [replace(hub.usual, send=100_000), replace(hub.usual, body=zipped[:-20])]
    assert store.fetch("net").read_bytes() == BODY
    assert hub.ranges() == [None] * 3


def test_a_compressed_answer_of_another_kind_is_refused(shelf: Shelf, hub: Hub) -> None:
    shelf.add(sha256=SHA)
    hub.usual = Reply(headers={"Content-Encoding": "br"})
    assert "compressed, as br" in refused()
    hub.usual = Reply(headers={"Content-Encoding": "gzip"})
    assert "compressed answer is damaged" in refused()


def test_a_log_in_page_is_refused(shelf: Shelf, hub: Hub) -> None:
    path = shelf.add()
    hub.usual = Reply(headers={"Content-Type": "text/html; charset=utf-8"})
    assert "log-in page" in refused()
    assert not path.exists()


def test_a_server_that_drips_is_left_and_can_be_gone_on_with(
    shelf: Shelf, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shelf.add(sha256=SHA)
    with monkeypatch.context() as patch:
        patch.setattr(answers, "monotonic", itertools.count(0, answers.CHUNK / answers.SLOWEST * 1.5).__next__)
        message = refused()
    assert "less than 1,000 bytes a second" in message and "run the command again" in message
    assert len(hub.requests) == 1 and not path.exists() and store.locate("net") is None
    assert store.fetch("net").read_bytes() == BODY
    assert hub.ranges()[-1] is not None


def test_a_slow_server_that_is_fast_enough_is_waited_for(
    shelf: Shelf, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.add(sha256=SHA)
    monkeypatch.setattr(answers, "CHUNK", 1000)  # so that each piece is as large
    monkeypatch.setattr(answers, "monotonic", itertools.count(0, 0.5).__next__)
    assert store.fetch("net").read_bytes() == BODY


def test_a_head_that_drips_is_not_waited_for(shelf: Shelf, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.add(sha256=SHA)
    monkeypatch.setattr(answers, "PATIENCE", 0.2)
    hub.replies += [Reply(pause="head")]
    assert "answer's head" in refused() and len(hub.requests) <= 1


SECRET = "ann:secret@"


@pytest.mark.parametrize(
    "wrong",
    [
        Reply(status=404),
        Reply(status=503),
        Reply(body=OTHER),
        Reply(send=1000),
        Reply(claim=5),
        Reply(headers={"Content-Type": "text/html"}),
        Reply(headers={"Content-Encoding": "br"}),
        Reply(status=302, headers={"Location": "ftp://ann:secret@box/x?secret"}),
        Reply(status=302, headers={"Location": "/again?secret"}),
    ],
)
def test_secrets_of_urls_are_told_to_the_server_alone(
    shelf: Shelf, hub: Hub, monkeypatch: pytest.MonkeyPatch, wrong: Reply
) -> None:
    path = shelf.add(url="https://hub.invalid/a/net.pt", sha256=SHA)
    monkeypatch.setenv("EVSAM_MIRROR", hub.url.replace("://", f"://{SECRET}") + "/mirror?token=secret")
    hub.usual = wrong
    assert "secret" not in refused()
    assert hub.requests[0][0] == "/mirror/a/net.pt?token=secret" and "Basic" in str(hub.requests[0][1]["Authorization"])
    hub.usual = Reply()
    store.fetch("net")
    assert not [file for file in path.parent.iterdir() if b"secret" in file.read_bytes()]


@pytest.mark.parametrize("mirror", ["ftp://ann:secret@box/hub", "ann:secret@box:80", "http://ann:se/secret@box:1"])
def test_secrets_of_a_wrong_mirror_are_not_told(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
    shelf.add()
    monkeypatch.setenv("EVSAM_MIRROR", mirror)
    message = refused(kind=UsageError)
    assert "secret" not in message and "ann" not in message


@pytest.mark.parametrize(
    "note",
    [
        "[1]",
        "5",
        "[" * 100_000,
        '{"total": "5"}',
        '{"total": "300000", "sha256": null, "validator": "x"}',
        '{"total": 400000, "sha256": [], "validator": "x"}',
        '{"total": 400000, "sha256": null, "validator": {"a": 1}}',
        '{"total": 400000, "sha256": null, "validator": "x\\r\\nHost: y"}',
        '{"total": 400000, "sha256": null, "validator": "\\u20ac"}',
    ],
)
def test_a_damaged_note_of_a_download_is_as_none(shelf: Shelf, hub: Hub, note: str) -> None:
    path = shelf.add(sha256=SHA)
    path.parent.mkdir(parents=True)
    path.with_name("net.pt.part").write_bytes(BODY[:1000])
    path.with_name("net.pt.part.json").write_text(note)
    assert store.fetch("net").read_bytes() == BODY
    assert hub.ranges() == [None]


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


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(replies=st.lists(faults, max_size=8))
def test_no_sequence_of_faults_gives_a_wrong_file(
    shelf: Shelf, hub: Hub, tmp_path_factory: pytest.TempPathFactory, replies: list[Reply]
) -> None:
    path = tmp_path_factory.mktemp("any") / "net.pt"
    source = answers.Source(f"{hub.url}/net.pt", sha256=SHA)
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

    path.write_bytes(OTHER)
    assert SHA in refused() and "`evsam weights pull --force net`" in refused()
    path.unlink()
    hub.usual = Reply(body=OTHER)
    assert SHA in refused()  # the lock outlives the file
    hub.replies += [linked(OTHER)]
    assert SHA in refused() and "`evsam weights pull --force net`" in refused()
    assert store.fetch("net", force=True).read_bytes() == OTHER  # the remedy that the line names


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
