"""A teacher's image embeddings on disk: computed once, memory-mapped, resumable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from pipelines.errors import UsageError
from pipelines.files import filling, make_folder, read_json, reading, to_json, write_text
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
    with filling(folder):
        if not about_file.is_file():
            make_folder(folder)
            np.lib.format.open_memmap(file, "w+", np.float16, (len(photos), *SHAPE)).flush()
            np.lib.format.open_memmap(done_file, "w+", np.bool_, (len(photos),)).flush()
            write_text(about_file, to_json(about))
        elif read_json(about_file, "what is said of embeddings") != about:
            raise UsageError(f"{folder} holds embeddings of another teacher or of other photos: name another folder")
        with _Rows(file) as embeddings, _Rows(done_file) as done:
            missing = np.flatnonzero(~done.values)
            pending: list[int] = []
            for index in _shown(missing.tolist()):
                embeddings.write(index, embed(index))
                pending.append(index)
                if len(pending) == _FLUSH_EVERY or index == missing[-1]:
                    embeddings.flush()  # first the embeddings, then the marks that say they are there
                    for one in pending:
                        done.write(one, np.True_)
                    done.flush()
                    pending.clear()
    return file


class _Rows:
    """A file of NumPy's, row by row. Written as any file is: to a map of one, a full disk is the end of the process."""

    def __init__(self, path: Path) -> None:
        with reading(path, "an array that a teacher's embeddings are kept in"):
            self.values: np.memmap[Any, Any] = np.load(path, mmap_mode="r")
        self._file = path.open("r+b")

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, index: int, value: Any) -> None:
        row = np.asarray(value, self.values.dtype).tobytes()
        self._file.seek(self.values.offset + index * len(row))
        self._file.write(row)

    def flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def _shown(indices: Sequence[int]) -> Iterable[int]:
    """The photos left, with a bar on a terminal."""
    console = Console(stderr=True)
    bar = Progress(console=console, disable=not console.is_terminal, redirect_stdout=False, redirect_stderr=False)
    with bar:
        yield from bar.track(indices, description="teacher")


def _digest(photos: Sequence[Path]) -> str:
    return sha256("\n".join(str(photo) for photo in photos).encode()).hexdigest()
