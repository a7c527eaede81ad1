"""Files that others have fetched from the Hugging Face Hub, and what its environment variables mean."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.loopback_hub import Hub, Reply, running
from support.runs import evsam
from support.weights_shelf import BODY, OTHER, SHA, Shelf, refused

from pipelines.errors import UsageError, WeightsError
from weights import store

COMMIT, ANOTHER = "0123456789abcdef" * 2 + "01234567", "f" * 40
MAIN = "https://huggingface.co/mine/net/resolve/main/net.pt"
PINNED = f"https://huggingface.co/mine/net/resolve/{COMMIT}/sub/net.pt"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf" / "hub"


def put(cache: Path, file: str, body: bytes, commit: str = COMMIT) -> Path:
    """Lay a file down as the Hub's own programs do: a blob, the snapshot's link to it, and the branch's commit."""
    repository = cache / "models--mine--net"
    blob = repository / "blobs" / f"{len(body)}-{body[-1]}"
    link = repository / "snapshots" / commit / file
    for path in (blob, link, repository / "refs" / "main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(body)
    link.symlink_to(os.path.relpath(blob, link.parent))
    (repository / "refs" / "main").write_text(commit)
    return link


@pytest.mark.parametrize(("url", "file"), [(MAIN, "net.pt"), (PINNED, "sub/net.pt")])
@pytest.mark.parametrize("known", [{"sha256": SHA}, {"about_bytes": len(BODY)}])
def test_a_file_in_the_cache_is_used_without_a_copy(
    shelf: Shelf, cache: Path, no_network: None, url: str, file: str, known: dict[str, object]
) -> None:
    path, shared = shelf.add(url=url, **known), put(cache, file, BODY)
    assert store.state("net") == "shared" and store.locate("net") == shared
    assert store.verify("net")[0].path == shared and not shelf.home.exists()
    assert store.fetch("net", offline=True) == path == store.locate("net")
    assert path.is_symlink() and path.samefile(shared) and path.read_bytes() == BODY
    assert store.state("net") == ("shared" if "sha256" in known else "unverified")
    assert not list(cache.rglob("*.lock.json"))


def test_the_layout_is_that_of_the_hubs_own_package(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("huggingface_hub")
    shared = put(cache, "net.pt", BODY)
    assert package.try_to_load_from_cache("mine/net", "net.pt", cache_dir=cache) == str(shared)


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"])
def test_where_the_cache_is(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "elsewhere"
    monkeypatch.setenv(variable, str(folder))
    below = {"HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub", "HOME": ".cache/huggingface/hub"}
    shared = put(folder / below.get(variable, ""), "net.pt", BODY)
    shelf.add(url=MAIN, sha256=SHA)
    assert store.locate("net") == shared


@pytest.mark.parametrize("body", [OTHER, b"<html>log in</html>", b""])
def test_another_file_in_the_cache_is_not_used(
    shelf: Shelf, hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """And the user is told so."""
    path = shelf.add(url=MAIN, sha256=SHA)
    shared = put(cache, "net.pt", body or b"x")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    with pytest.raises(WeightsError, match="not on this machine"):
        store.fetch("net", offline=True)
    _, said = evsam("weights", "pull", "net")
    assert f"note: {shared} of the Hugging Face cache is not used: it " in said and said.count("note: ") == 1
    assert store.fetch("net") == path and not path.is_symlink() and path.read_bytes() == BODY


def test_a_commit_other_than_the_branchs_serves_where_the_hash_is_known(
    shelf: Shelf, cache: Path, no_network: None
) -> None:
    shelf.add(url=MAIN, sha256=SHA)
    shelf.add("unknown", url=MAIN, about_bytes=len(BODY))
    put(cache, "net.pt", BODY, ANOTHER)
    (cache / "models--mine--net" / "refs" / "main").write_text(COMMIT)
    assert store.fetch("net", offline=True).read_bytes() == BODY
    assert store.locate("unknown") is None


def test_a_cache_that_was_emptied(shelf: Shelf, hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, shared = shelf.add(url=MAIN, sha256=SHA), put(cache, "net.pt", BODY)
    store.fetch("net", offline=True)
    shared.unlink()
    assert store.state("net") == "missing"
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    assert store.fetch("net") == path and not path.is_symlink() and store.state("net") == "cached"


def test_files_of_a_name_come_from_here_and_there(
    shelf: Shelf, hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = shelf.add(url=MAIN, sha256=SHA), shelf.add(url=MAIN.replace("net.pt", "other.pt"))
    put(cache, "net.pt", BODY)
    assert store.state("net") == "missing"
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/mirror/")
    hub.usual = Reply(body=OTHER)
    store.fetch("net")
    assert first.is_symlink() and second.read_bytes() == OTHER
    assert [path for path, _ in hub.requests] == ["/mirror/mine/net/resolve/main/other.pt"]


def test_list_and_path_say_from_where(shelf: Shelf, cache: Path) -> None:
    shelf.add(url=MAIN, sha256=SHA, about_bytes=300_000)
    shared = put(cache, "net.pt", BODY)
    for _ in range(2):
        assert evsam("weights", "list")[0].splitlines()[1].endswith("in the Hugging Face cache")
        assert json.loads(evsam("weights", "list", "--json")[0])[0]["hub_path"] == str(shared)
        assert Path(evsam("weights", "path", "net")[0].strip()).samefile(shared)
        store.fetch("net", offline=True)


def test_what_lies_in_a_space_is_found_too(shelf: Shelf, cache: Path, no_network: None) -> None:
    shelf.add(url=MAIN.replace("/mine/", "/spaces/mine/"), sha256=SHA)
    put(cache, "net.pt", BODY)
    assert store.locate("net") is None
    (cache / "models--mine--net").rename(cache / "spaces--mine--net")
    assert store.fetch("net", offline=True).read_bytes() == BODY


def test_what_a_licence_does_not_allow_is_said_before_the_download(
    shelf: Shelf, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.add(sha256=SHA, licence="LicenseRef-Lab-1.0", terms="no commercial use")
    monkeypatch.setenv("EVSAM_MIRROR", "http://127.0.0.1:9")
    told = "net comes under LicenseRef-Lab-1.0: no commercial use (https://net.example)"
    assert evsam("weights", "pull", "net", code=WeightsError.exit_code)[1].splitlines()[0] == told
    monkeypatch.delenv("EVSAM_MIRROR")
    assert evsam("weights", "pull", "net")[1].count(told) == 1
    assert told not in evsam("weights", "pull", "net")[1]  # it is here
    assert "Lab-1.0: no commercial use" in evsam("weights", "list")[0]


@pytest.mark.parametrize("value", ["1", "true", "ON", "yes"])
def test_hub_offline_is_about_the_hub_alone(
    shelf: Shelf, hub: Hub, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    shelf.add(url=MAIN, sha256=SHA)
    shelf.add("elsewhere", sha256=SHA)
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(WeightsError, match="not on this machine and HF_HUB_OFFLINE is set"):
        store.fetch("net")
    assert hub.requests == []
    store.fetch("elsewhere")
    monkeypatch.setenv("EVSAM_MIRROR", hub.url)
    store.fetch("net")
    assert len(hub.requests) == 2


def test_the_token_goes_to_the_endpoint_alone(shelf: Shelf, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.add(url=MAIN, sha256=SHA)
    shelf.add("elsewhere", sha256=SHA)
    monkeypatch.setenv("HF_TOKEN", " hf_secret\n")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    with running(BODY) as storage:
        there = storage.url.replace("127.0.0.1", "localhost")
        hub.replies += [Reply(status=302, headers={"Location": f"{there}/x"}, body=b"")]
        store.fetch("net")
        assert [headers["Authorization"] for _, headers in storage.requests] == [None]
    store.fetch("elsewhere")
    monkeypatch.setenv("EVSAM_MIRROR", hub.url)
    store.fetch("net", force=True)
    assert [headers["Authorization"] for _, headers in hub.requests] == ["Bearer hf_secret", None, None]


@pytest.mark.parametrize("reply", [Reply(status=401), Reply(status=503), Reply(body=OTHER), Reply(send=1000)])
def test_the_token_is_never_told(shelf: Shelf, hub: Hub, monkeypatch: pytest.MonkeyPatch, reply: Reply) -> None:
    path = shelf.add(url=MAIN, sha256=SHA)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    hub.usual = reply
    assert "secret" not in refused()
    assert not [file for file in path.parent.iterdir() if b"secret" in file.read_bytes()]
    monkeypatch.setenv("HF_TOKEN", "hf secret\x07")
    message = refused(kind=UsageError)
    assert "HF_TOKEN" in message and "secret" not in message


def test_an_endpoint_must_be_a_web_address(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.add(url=MAIN)
    monkeypatch.setenv("HF_ENDPOINT", "box:8000")
    assert "HF_ENDPOINT" in refused(kind=UsageError)


# --- where there is no network --------------------------------------------------------------------------------------

RECIPE = ("bring it here", "`evsam weights import net.pt --as net`", "EVSAM_MIRROR", f"{len(BODY):,} bytes", SHA)


def no_such_host(_: Hub, patch: pytest.MonkeyPatch) -> str:
    return "http://hub.invalid/net.pt"


def nobody_listens(hub: Hub, patch: pytest.MonkeyPatch) -> str:
    return "http://127.0.0.1:9/net.pt"


def proxy_refuses_the_tunnel(hub: Hub, patch: pytest.MonkeyPatch) -> str:
    patch.setenv("https_proxy", hub.url)
    return "https://hub.invalid/net.pt"


def proxy_answers_itself(hub: Hub, patch: pytest.MonkeyPatch) -> str:
    patch.setenv("http_proxy", hub.url)
    hub.usual = Reply(status=403, body=b"not from here")
    return "http://hub.invalid/net.pt"


def proxy_is_gone(_: Hub, patch: pytest.MonkeyPatch) -> str:
    patch.setenv("https_proxy", "http://127.0.0.1:9")
    return "https://hub.invalid/net.pt"


def log_in_page(hub: Hub, patch: pytest.MonkeyPatch) -> str:
    hub.usual = Reply(headers={"Content-Type": "text/html"}, body=b"<html>")
    return f"{hub.url}/net.pt"


def not_found(hub: Hub, patch: pytest.MonkeyPatch) -> str:
    hub.usual = Reply(status=404, body=b"")
    return f"{hub.url}/net.pt"


def silent(hub: Hub, patch: pytest.MonkeyPatch) -> str:
    patch.setattr("weights.answers.PATIENCE", 0.2)
    hub.usual = Reply(pause="head")
    return f"{hub.url}/net.pt"


WAYS = [
    (no_such_host, "hub.invalid is unknown"),
    (nobody_listens, "no connection"),
    (proxy_refuses_the_tunnel, "the proxy refused, with 501"),
    (proxy_answers_itself, "answered 403"),
    (proxy_is_gone, "proxy"),
    (log_in_page, "log-in page"),
    (not_found, "answered 404"),
    (silent, "answer's head"),
]


@pytest.mark.parametrize(("way", "reason"), WAYS, ids=[way.__name__ for way, _ in WAYS])
def test_every_failed_download_ends_with_the_recipe(
    shelf: Shelf, hub: Hub, monkeypatch: pytest.MonkeyPatch, way: object, reason: str
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert callable(way)
    url = way(hub, monkeypatch)
    shelf.add(url=url, sha256=SHA, bytes=len(BODY))
    message = refused()
    for part in (reason, url, *RECIPE):
        assert part in message
    with pytest.raises(WeightsError) as offline:
        store.fetch("net", offline=True)
    recipe = message.partition("fetch ")[2]
    assert recipe and recipe in str(offline.value)


def test_the_recipe_is_of_all_files_that_are_missing(shelf: Shelf, hub: Hub) -> None:
    urls = [f"{hub.url}/a/{part}" for part in ("net.pt", "b.pt", "c.pt")]
    for url in urls:
        shelf.add(url=url, about_bytes=300_000)
    hub.replies += [Reply()]
    hub.usual = Reply(status=404, body=b"")
    message = refused()
    assert urls[0] not in message and all(f"{url} (about 300.0 kB)" in message for url in urls[1:])
    assert "`evsam weights import FILE --as net` for each" in message
