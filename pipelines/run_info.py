"""What `run.json` says of a run: how its images ended, versions, machine, time and memory."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

from pipelines.notes import notes_of_images
from pipelines.records import Record, Status

PACKAGES = (
    "evsam",
    "torch",
    "torchvision",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "ultralytics",
    "groundingdino-py",
    "transformers",
    "tokenizers",
    "numpy",
    "opencv-python",
    "pillow",
    "pycocotools",
)


def images(records: Callable[[], Iterable[Record]], notes: Iterable[str]) -> dict[str, Any]:
    """How many images ended how, why they failed or are empty, and what else there is to say.

    records: call it to stream those of all images. notes: what follows the notes of the images themselves.
    """
    counts = dict.fromkeys(get_args(Status), 0)
    reasons: dict[str, dict[str, str]] = {"failed": {}, "empty": {}}
    for record in records():
        counts[record.status] += 1
        if record.status in reasons:
            reasons[record.status][record.name] = record.reason or ""
    total = sum(counts.values())
    return {"images": {"total": total, **counts}, **reasons, "notes": [*notes_of_images(records()), *notes]}


def versions() -> dict[str, str]:
    """Python and the packages that decide the numbers; those not installed are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine(device: str) -> dict[str, Any]:
    """The hardware: processor, cores, memory, and the device that ran the models; of a GPU what drives it, too."""
    import psutil
    import torch

    info = {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "device": device,
    }
    if device.startswith("cuda"):
        from torch.utils.collect_env import get_nvidia_driver_version, run

        info |= {
            "gpu": torch.cuda.get_device_name(device),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "driver": get_nvidia_driver_version(run),  # type: ignore[no-untyped-call]
        }
    return info


def rounding(device: str) -> dict[str, Any]:
    """What decides the last bits of results, beside the settings of a run."""
    import torch

    known = {"processor": _processor(), "threads": torch.get_num_threads(), "torch": metadata.version("torch")}
    return {**known, "gpu": torch.cuda.get_device_name(device)} if device.startswith("cuda") else known


def speed(images: int, seconds: float, stages: Mapping[str, float]) -> dict[str, Any]:
    """How long a run took for so many images. stages: seconds by name, each more than 0."""
    return {
        "images": images,
        "seconds": round(seconds, 3),
        "images_per_second": round(images / seconds, 3),
        "stage_seconds": {stage: round(value, 3) for stage, value in sorted(stages.items())},
        "stage_images_per_second": {stage: round(images / value, 2) for stage, value in sorted(stages.items())},
        "peak_memory_mib": peak_memory_mib(),
    }


def _processor() -> str:
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123  a kernel file, read line by line
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    return platform.processor()


def peak_memory_mib() -> float:
    """The most memory this process has held so far. On Linux from the kernel's own count: `getrusage` starts a process
    with the peak of the one that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text("utf-8").splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10, 1)
    if sys.platform == "win32":
        import psutil

        return round(psutil.Process().memory_info().peak_wset / 2**20, 1)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
