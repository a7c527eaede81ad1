"""How a score was made: everything that another needs to make it again, or to see why theirs differs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pipelines import run_info
from pipelines.evaluation.annotations import GroundTruth
from pipelines.evaluation.protocols import Protocol
from weights import digest

SCORERS = ("hotcoco", "scipy")
ONE_CLASS = "taken as one"


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
        "classes": ONE_CLASS if agnostic else "told apart",
        "data_set": {
            "kind": data_set,
            "annotations": truth.path.name,
            "sha256": sha256_of(truth.path),
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


def stamp_of_folders(protocol: Mapping[str, Any], truth: Path, given: Path | None, images: int) -> dict[str, Any]:
    """The stamp of a score of a folder of maps against a folder of truth; given: None when no maps were scored."""
    return {
        "protocol": dict(protocol),
        "data_set": {"truth": truth.name, "sha256": sha256_of(truth), "images": images},
        "made_by": {"maps": given.name, "sha256": sha256_of(given)} if given else {},
        "versions": run_info.versions() | _versions(SCORERS),
        "seeds": "none: nothing here is drawn at random",
    }


def made_by_file(path: Path) -> dict[str, Any]:
    """What the stamp says of predictions that were read from a results file."""
    return {"results": path.name, "sha256": digest.sha256(path)}


def sha256_of(path: Path) -> str:
    """The sha256 of a file, or of a folder: of the names and hashes of its files."""
    if path.is_file():
        return digest.sha256(path)
    listing = "".join(f"{file.name} {digest.sha256(file)}\n" for file in sorted(path.iterdir()) if file.is_file())
    return hashlib.sha256(listing.encode()).hexdigest()


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
