"""Peak memory of a subject, and processes of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines.benchmark.subjects import Subject
from pipelines.errors import SetupError

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")


@dataclass(frozen=True)
class Memory:
    """The most MiB held. process: of main memory, libraries and weights included; gpu: by torch on a CUDA device."""

    process: float
    gpu: float | None


def memory_of_this_process(device: torch.device) -> Memory:
    """Since it began."""
    import torch

    from pipelines.run_info import peak_memory_mib

    on_gpu = device.type == "cuda"
    return Memory(peak_memory_mib(), torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else None)


def peak_memory(subject: Subject, photo: Path | None, boxes: int) -> Memory:
    """Of building the subject and segmenting that many boxes in the photograph (see `works.open_scene`).

    Raises SetupError when the process is killed.
    """
    return in_own_process(_measure, subject, photo, boxes, called=subject.name, instead="--no-memory")


def in_own_process(work: Callable[..., Result], *given: Any, called: str, instead: str) -> Result:
    """What `work` gives, in a process that then ends. called, instead: for the error, what is measured, and what needs
    less memory. Raises what `work` raises, and SetupError when the process is killed.
    """
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(work, *given).result()
    except BrokenProcessPool as error:
        raise SetupError(f"{called} was killed, as happens when memory runs out: try {instead}") from error


def _measure(subject: Subject, photo: Path | None, boxes: int) -> Memory:
    from pipelines.benchmark.works import open_scene

    scene = open_scene(photo, boxes)
    sam = subject.build()
    sam.set_image(scene.image.pixels)
    sam.segment_boxes(scene.boxes)
    return memory_of_this_process(sam.device)
