"""The Hugging Face Hub as its own environment variables set it up, and the cache that its programs share.

`HF_HUB_CACHE`, else `hub` in `HF_HOME`, is the cache: `models--OWNER--NAME/snapshots/COMMIT/FILE`, and there
`refs/BRANCH` holds a commit; `spaces--OWNER--NAME` where the file lies in a Space. `HF_ENDPOINT` takes the place of the
Hub's scheme and host, `HF_HUB_OFFLINE` forbids to ask it, `HF_TOKEN` is sent to it alone. See
https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pipelines.errors import UsageError

_FILE = re.compile(r"https://huggingface\.co/(spaces/)?([^/]+)/([^/]+)/resolve/([^/]+)/([^?]+)(\?.*)?")


def serves(url: str | None) -> bool:
    """Whether a file of the manifest is one of the Hub's."""
    return bool(url and _FILE.fullmatch(url))


def cached(url: str, *, any_commit: bool) -> list[Path]:
    """The files of the shared cache that can be the one at `url`, the likeliest first; reads none of them.

    any_commit: whether those of other commits can be, too, as they can where a hash tells.
    """
    match = _FILE.fullmatch(url)
    if match is None:
        return []
    space, owner, name, revision, file, _ = match.groups()
    try:
        folder = _cache() / f"{'spaces' if space else 'models'}--{owner}--{name}"
        ref = folder / "refs" / revision
        commit = ref.read_text("utf-8").strip() if ref.is_file() else revision
        others = sorted(path.name for path in (folder / "snapshots").glob("*")) if any_commit else []
        paths = [folder / "snapshots" / each / file for each in dict.fromkeys([commit, *others])]
        return [path for path in paths if path.is_file()]
    except (OSError, ValueError, RuntimeError):  # a cache that cannot be read is as none
        return []


def _cache() -> Path:
    """The folder of the cache. Raises RuntimeError where it is below the home of a user that there is not."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    home = os.environ.get("HF_HOME") or base
    chosen = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or Path(home, "hub")
    return Path(os.path.expandvars(chosen)).expanduser().absolute()


def is_offline() -> bool:
    """Whether `HF_HUB_OFFLINE` forbids to ask the Hub."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in ("1", "ON", "YES", "TRUE")


def token() -> str | None:
    """What tells the Hub who asks. Raises UsageError for what cannot be sent."""
    given = os.environ.get("HF_TOKEN", "").strip()
    if not re.fullmatch("[!-~]*", given):
        raise UsageError("HF_TOKEN holds what no token does, such as a space: set it anew, or unset it")
    return given or None
