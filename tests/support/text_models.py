"""Small models that read, as files and ready to look at images."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import tiny_text
from support.tiny_text import BERT, SIDES, SIZES, stripes

from pipelines.detectors.text.hugging_face import HuggingFaceGroundingDino
from pipelines.detectors.text.official import OfficialGroundingDino
from pipelines.types import Image

PHRASES = ["red car", "cat", "hard hat"]
IMAGES = [Image("wide", stripes(120, 200)), Image("tall", stripes(230, 90)), Image("small", stripes(40, 40))]
GDINO = "GroundingDinoForObjectDetection"


@contextmanager
def small_models(root: Path) -> Iterator[dict[str, Path]]:
    """The same weights as an official checkpoint and as a model of the hub; a small MM-Grounding-DINO, an OWLv2."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tiny_text.shrink_swin(patch)
        state = tiny_text.write_official(
            root / "official", tiny_text.official_settings(**SIZES), BERT, "groundingdino_swint_ogc.pth"
        )
        tiny_text.write_hugging_face(root / "hub", state, BERT, **tiny_text.TINY_CONFIG)
        tiny_text.write_mm(root / "mm")
        tiny_text.write_owlv2(root / "owlv2")
        yield {folder.name: folder for folder in root.iterdir()}


def official(folder: Path, **options: Any) -> OfficialGroundingDino:
    return OfficialGroundingDino(
        folder / "groundingdino_swint_ogc.pth",
        **{"config": tiny_text.official_settings(**SIZES), "bert": BERT, **SIDES, **options},
    )


def hub(folder: Path, **options: Any) -> HuggingFaceGroundingDino:
    return HuggingFaceGroundingDino(folder / "model.safetensors", **{"architecture": GDINO, **SIDES, **options})
