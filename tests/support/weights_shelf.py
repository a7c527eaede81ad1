"""A manifest and a cache of a test's own, and what the loopback server has for them."""

from __future__ import annotations

import hashlib
import json
import sys
from io import BytesIO
from pathlib import Path

import pytest
import torch
from support.loopback_hub import Hub

from pipelines.errors import EvsamError, WeightsError
from weights import manifest, store


def torch_file(seed: int, size: int = 300_000) -> bytes:
    """What torch.save makes of a state dict of about so many bytes."""
    file = BytesIO()
    torch.save({"w": torch.randint(256, (size,), dtype=torch.uint8, generator=torch.manual_seed(seed))}, file)
    return file.getvalue()


BODY, OTHER = torch_file(0), torch_file(1)
SHA = hashlib.sha256(BODY).hexdigest()
ROOT = Path(__file__).parents[2]


class Shelf:
    """A manifest and an empty cache of the test's own."""

    def __init__(self, folder: Path, hub: Hub) -> None:
        self.manifest = folder / "manifest.toml"
        self.home = folder / "home"
        self.hub = hub
        self.manifest.write_text("")

    def add(self, name: str = "net", **fields: object) -> Path:
        """Add a row; return where the cache will have its file."""
        row: dict[str, object] = {"name": name, "model": "Net", "licence": "MIT", "source": "https://net.example"}
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


def refused(name: str = "net", kind: type[EvsamError] = WeightsError) -> str:
    """Fetch `name`, which must fail; return its message, which must be one line."""
    with pytest.raises(kind) as caught:
        store.fetch(name, offline=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)
