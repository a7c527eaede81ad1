"""`evsam weights`, run as a user runs it, against the loopback server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_hub import Hub, Reply, running
from typer.testing import CliRunner, Result

from evsam_cli.weights import app
from pipelines.errors import EvsamError, UnknownNameError, UsageError, WeightsError
from weights import download, manifest

BODY = (b"PK\x03\x04" + bytes(range(256)) * 100)[:25600]
ROWS = """
[[file]]
name = "net"
model = "Net"
url = "https://hub.invalid/net.pt"
licence = "MIT"
source = "https://net.example"
bytes = 25600

[[file]]
name = "net-2"
model = "Net 2"
url = "https://hub.invalid/net-2.pt"
licence = "Apache-2.0"
source = "https://net.example"
about_bytes = 139_000_000
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
    file.write_bytes(BODY[1:])
    assert "net FAULTY" in fails(WeightsError, "verify", "net").stdout
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
    assert "25.6/25.6 kB" in result.stderr and "kB" not in result.stdout


def test_list(hub: Hub) -> None:
    run("pull", "net")
    first, second = run("list").stdout.splitlines()[1:]
    assert first.split() == ["net", "Net", "25.6", "kB", "MIT", "cached"]
    assert second.split() == ["net-2", "Net", "2", "139.0", "MB", "Apache-2.0", "missing"]


def test_list_as_json(hub: Hub, tmp_path: Path) -> None:
    net, other = json.loads(run("list", "--json").stdout)
    assert (net["name"], net["state"], net["path"]) == ("net", "missing", None)
    assert [file["url"] for file in other["files"]] == ["https://hub.invalid/net-2.pt"]


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
