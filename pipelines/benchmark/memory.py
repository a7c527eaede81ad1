"""Peak memory of a subject, in a process of its own."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from pipelines.benchmark.subjects import Subject
from pipelines.errors import SetupError


@dataclass(frozen=True)
class Memory:
    """The most MiB held. process: of main memory, libraries and weights included; gpu: by torch on a CUDA device."""

    process: float
    gpu: float | None


def peak_memory(subject: Subject, photo: Path | None, boxes: int) -> Memory:
    """Of building the subject and segmenting that many boxes in the photograph (see `works.open_scene`).

    Raises SetupError when the process is killed.
    """
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(_measure, subject, photo, boxes).result()
    except BrokenProcessPool as error:
        raise SetupError(f"{subject.name} was killed, as happens when memory runs out: try --no-memory") from error


def _measure(subject: Subject, photo: Path | None, boxes: int) -> Memory:
    import torch

    from pipelines.benchmark.works import open_scene
    from pipelines.run_info import peak_memory_mib

    scene = open_scene(photo, boxes)
    sam = subject.build()
    sam.set_image(scene.image.pixels)
    sam.segment_boxes(scene.boxes)
    on_gpu = sam.device.type == "cuda"
    return Memory(peak_memory_mib(), torch.cuda.max_memory_allocated(sam.device) / 2**20 if on_gpu else None)
