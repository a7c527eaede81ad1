"""`evsam weights`, run as a user runs it, against the loopback server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.loopback_hub import Hub, Reply, running
from support.weights_shelf import torch_file
from typer.testing import CliRunner, Result

from evsam_cli.weights import app
from pipelines.errors import EvsamError, UnknownNameError, UsageError, WeightsError
from weights import download, manifest

BODY = torch_file(0, 25_000)
ROWS = f"""
[[file]]
name = "net"
model = "Net"
url = "https://hub.invalid/net.pt"
licence = "MIT"
source = "https://net.example"
bytes = {len(BODY)}
sha256 = "{hashlib.sha256(BODY).hexdigest()}"

[[file]]
name = "net-2"
model = "Net 2"
url = "https://hub.invalid/net-2.pt"
licence = "Apache-2.0"
source = "https://net.example"
about_bytes = 26_000
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    (tmp_path / "manifest.toml").write_text(ROWS)
    monkeypatch.setattr(manifest, "MANIFEST", tmp_path / "manifest.toml")
    monkeypatch.setattr(download, "BACKOFF", 0.0)
    monkeypatch.setenv("EVSAM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("EVSAM_OFFLINE", raising=False)
    manifest.rows.cache_clear()
    with running(BODY) as hub:
        monkeypatch.setenv("EVSAM_MIRROR", hub.url)
        yield hub
    manifest.rows.cache_clear()


def run(*arguments: object) -> Result:
    """The result of a command that must succeed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result


def fails(kind: type[EvsamError], *arguments: object) -> Result:
    """The result of a command that must end in `kind`, which the main program prints as one line."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert type(result.exception) is kind and "\n" not in str(result.exception)
    return result


def test_pull_path_verify(hub: Hub, tmp_path: Path) -> None:
    file = tmp_path / "home" / "weights" / "net" / "net.pt"
    fails(WeightsError, "path", "net")
    assert run("pull", "net").stdout == f"net {file}\n" and file.read_bytes() == BODY
    assert run("path", "net").stdout == f"{file}\n"
    assert "net ok" in run("verify").stdout
    assert "net-2" not in run("verify").stdout
    file.write_bytes(BODY[1:])
    assert "net FAULTY" in fails(WeightsError, "verify", "net").stdout
    fails(WeightsError, "pull", "net")
    run("pull", "--force", "net")
    assert file.read_bytes() == BODY and "net ok" in run("verify").stdout
    assert "net-2 FAULTY" in fails(WeightsError, "verify", "net-2").stdout


def test_pull_everything_or_something(hub: Hub) -> None:
    fails(UsageError, "pull")
    fails(UnknownNameError, "pull", "net", "nets")
    assert hub.requests == []
    assert len(run("pull", "--all").stdout.splitlines()) == 2
    assert [path for path, _ in hub.requests] == ["/net.pt", "/net-2.pt"]


def test_pull_tells_what_is_wrong(hub: Hub) -> None:
    hub.usual = Reply(status=404, body=b"")
    assert "answered 404" in str(fails(WeightsError, "pull", "net").exception)


def test_pull_shows_progress_on_standard_error(hub: Hub) -> None:
    result = run("pull", "net")
    size = f"{len(BODY) / 1000:.1f}"
    assert f"{size}/{size} kB" in result.stderr and "kB" not in result.stdout


def test_list(hub: Hub) -> None:
    run("pull", "net")
    first, second = run("list").stdout.splitlines()[1:]
    assert first.split() == ["net", "Net", f"{len(BODY) / 1000:.1f}", "kB", "MIT", "cached"]
    assert second.split() == ["net-2", "Net", "2", "26.0", "kB", "Apache-2.0", "missing"]


def test_list_as_json(hub: Hub, tmp_path: Path) -> None:
    net, other = json.loads(run("list", "--json").stdout)
    assert (net["name"], net["state"], net["path"]) == ("net", "missing", None)
    assert [file["url"] for file in other["files"]] == ["https://hub.invalid/net-2.pt"]


def test_what_nobody_published_a_hash_of_is_not_called_verified(hub: Hub, tmp_path: Path) -> None:
    file = Path(run("pull", "net-2").stdout.split()[1])
    told = run("verify", "net-2").stdout
    assert "net-2 not verified" in told and "unchanged since it came" in told and "ok" not in told
    assert run("list").stdout.splitlines()[2].endswith("cached, not verified")
    file.with_name("net-2.pt.lock.json").write_text("[" * 100_000)
    assert "not verified" in run("verify").stdout

    file.write_bytes(b"<html>please log in</html>")
    assert run("list").stdout.splitlines()[2].endswith("damaged")
    assert "net-2 FAULTY" in fails(WeightsError, "verify").stdout
    assert "pull --force net-2" in str(fails(WeightsError, "pull", "net-2").exception)
    run("pull", "--force", "net-2")
    assert file.read_bytes() == BODY


def test_list_of_a_file_that_was_put_there_by_hand(hub: Hub, tmp_path: Path) -> None:
    file = tmp_path / "home" / "weights" / "net" / "net.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(BODY)
    assert run("list").stdout.splitlines()[1].endswith("cached, not verified")
    run("verify", "net")
    assert run("list").stdout.splitlines()[1].split()[-1] == "cached"
    file.write_bytes(BODY[:-1])
    assert run("list").stdout.splitlines()[1].endswith("damaged")


def test_import(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(BODY)
    fails(UsageError, "import", tmp_path / "mine.pt")
    assert Path(run("import", tmp_path / "mine.pt", "--as", "net-2").stdout.strip()).read_bytes() == BODY
    (tmp_path / "net.pt").write_bytes(BODY[1:])
    fails(WeightsError, "import", tmp_path / "net.pt")
    assert hub.requests == []


@pytest.mark.parametrize("command", [[], ["list"], ["pull"], ["path"], ["verify"], ["import"]])
def test_every_command_has_help(command: list[str]) -> None:
    assert "Usage" in run(*command, "--help").stdout
