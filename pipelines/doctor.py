"""What this machine and installation can and cannot do, found out before a run."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pipelines import run_info
from pipelines.errors import SetupError, WeightsError
from pipelines.packages import unloadable
from weights import manifest, store

Verdict = Literal["ok", "note", "fault"]


@dataclass(frozen=True)
class Finding:
    """One line of the report. A fault stops runs; a note limits them."""

    topic: str
    verdict: Verdict
    text: str


def examine() -> Iterator[Finding]:
    """Look at packages, devices, cache and weights. Loads torch; downloads nothing."""
    for topic, look in _TOPICS.items():
        try:
            yield from look()
        except SetupError as error:
            yield Finding(topic, "fault", str(error))
        except Exception as error:
            if (reason := unloadable(error)) is None:
                raise
            yield Finding(topic, "fault", reason)


def _packages() -> Iterator[Finding]:
    for package, version in run_info.versions().items():
        yield Finding("packages", "ok", f"{package} {version}")
    for module, use in (("torchvision.ops", "detectors"), ("cv2", "pictures"), ("pycocotools.mask", "masks")):
        try:
            importlib.import_module(module)
        except (ImportError, OSError, RuntimeError) as error:
            yield Finding("packages", "fault", f"{module} cannot be loaded, {use} will not work: {error}")


def _devices() -> Iterator[Finding]:
    import torch

    from pipelines.device import bf16_supported

    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    for name in devices:
        device = torch.device(name)
        label = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        has = {"fp32": True, "bf16": bf16_supported(device), "fp16": device.type != "cpu"}
        precisions = ", ".join(precision for precision, there in has.items() if there)
        yield Finding("devices", "ok", f"{name} {label} ({precisions})".replace("  ", " "))
    if len(devices) == 1:
        yield Finding("devices", "note", "no GPU that torch can use: models run on the CPU")


def _cache() -> Iterator[Finding]:
    home = store.home()
    try:
        nearest = next(path for path in (home, *home.parents) if path.exists())
        free = shutil.disk_usage(nearest).free / 2**30
        writable = nearest.is_dir() and os.access(nearest, os.W_OK)
    except OSError:
        writable = False
    if writable:
        yield Finding("cache", "ok" if free > 2 else "note", f"{home}, {free:.1f} GiB free")
    else:
        yield Finding("cache", "fault", f"{home} cannot be written: set EVSAM_HOME to a folder that can")
    if store.is_offline():
        yield Finding("cache", "note", "EVSAM_OFFLINE is set: nothing is downloaded")


def _weights() -> Iterator[Finding]:
    states = {name: store.state(name) for name in manifest.names()}
    for name, state in states.items():
        if state == "missing":
            continue
        try:
            unknown = [file.path.name for file in store.verify(name) if file.against != "manifest"]
        except WeightsError as error:
            yield Finding("weights", "fault", str(error))
            continue
        if unknown:
            files = ", ".join(unknown)
            yield Finding("weights", "note", f"{name} (cached) is not verified: no hash was published of {files}")
        else:
            yield Finding("weights", "ok", f"{name} ({'bundled' if state == 'bundled' else 'cached'})")
    if missing := [name for name, state in states.items() if state == "missing"]:
        pull = "a command that names them fetches them, as `evsam weights pull NAME` does"
        yield Finding("weights", "note", f"{len(missing)} models are not here, such as {missing[0]}: {pull}")


_TOPICS: dict[str, Callable[[], Iterator[Finding]]] = {
    "packages": _packages,
    "devices": _devices,
    "cache": _cache,
    "weights": _weights,
}
