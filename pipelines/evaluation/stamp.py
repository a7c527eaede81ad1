"""How a score was made: everything that another needs to make it again, or to see why theirs differs."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pipelines import run_info
from pipelines.evaluation.annotations import GroundTruth
from pipelines.evaluation.protocols import Protocol
from weights import digest

SCORERS = ("hotcoco", "scipy")


def stamp(
    truth: GroundTruth,
    data_set: str,
    protocol: Protocol,
    made_by: Mapping[str, Any],
    *,
    agnostic: bool,
    limit: int | None,
    failed: Mapping[str, str],
    device: str | None,
) -> dict[str, Any]:
    """The stamp of one score.

    data_set: "coco" or "lvis". made_by: what the predictions come from: prompts and SAM with the sha256 of their files,
    or a results file with its. failed: image name -> reason; their objects count as missed. device: None when no model
    ran.
    """
    return {
        "protocol": protocol.rules(),
        "classes": "taken as one" if agnostic else "told apart",
        "data_set": {
            "kind": data_set,
            "annotations": truth.path.name,
            "sha256": digest.sha256(truth.path),
            "images": len(truth.images),
            "first_images_only": limit,
            "objects": sum(map(len, truth.objects.values())),
        },
        "made_by": dict(made_by),
        "failed_images": dict(failed),
        "versions": run_info.versions() | _versions(SCORERS),
        "machine": run_info.machine(device or "cpu") if device else None,
        "seeds": "none: nothing here is drawn at random",
    }


def made_by_file(path: Path) -> dict[str, Any]:
    """What the stamp says of predictions that were read from a results file."""
    return {"results": path.name, "sha256": digest.sha256(path)}


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
