"""A teacher's image embeddings on disk: computed once, memory-mapped, resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from pipelines.errors import UsageError
from pipelines.files import write_text
from pipelines.types import Float32

SHAPE = (256, 64, 64)
_FLUSH_EVERY = 32


def cache_embeddings(teacher: str, embed: Callable[[int], Float32], photos: Sequence[Path], folder: Path) -> Path:
    """The file of the embeddings of `photos`, `folder`/embeddings.npy: N x 256 x 64 x 64 float16, to be mapped.

    teacher: what made them, kept beside them; embed: number of a photo -> 256 x 64 x 64, called for those that the
    folder does not hold yet. Raises UsageError when the folder holds another teacher's embeddings or other photos'.
    """
    about = {"teacher": teacher, "photos": len(photos), "names": _digest(photos)}
    file, done_file, about_file = (folder / name for name in ("embeddings.npy", "done.npy", "about.json"))
    if about_file.is_file():
        if json.loads(about_file.read_text(encoding="utf-8")) != about:
            raise UsageError(f"{folder} holds embeddings of another teacher or of other photos: name another folder")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(file, "w+", np.float16, (len(photos), *SHAPE)).flush()
        np.lib.format.open_memmap(done_file, "w+", np.bool_, (len(photos),)).flush()
        write_text(about_file, json.dumps(about))
    embeddings, done = np.load(file, mmap_mode="r+"), np.load(done_file, mmap_mode="r+")
    missing = np.flatnonzero(~done)
    pending: list[int] = []
    console = Console(stderr=True)
    for index in track(missing.tolist(), "teacher", console=console, disable=not console.is_terminal):
        embeddings[index] = embed(index)
        pending.append(index)
        if len(pending) == _FLUSH_EVERY or index == missing[-1]:
            embeddings.flush()  # first the embeddings, then the marks that say they are there
            done[pending] = True
            done.flush()
            pending.clear()
    return file


def _digest(photos: Sequence[Path]) -> str:
    return sha256("\n".join(str(photo) for photo in photos).encode()).hexdigest()
