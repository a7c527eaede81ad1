"""Make `tests/data/parity.npz` and `tests/data/layouts.json`: run `python tests/make_parity.py`.

The fixture was made when every EfficientViT-SAM agreed with the outputs of the reference implementation (seeded
weights, a 480 x 640 photograph, boxes, points and mask prompts) to a relative error below 1e-5; it keeps that state.
The layouts are those of the official checkpoints.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from seeded import layout_digest, picture, weights_for

from pipelines.sam import SAMS, build_sam
from pipelines.sam.network import Source
from pipelines.sam.predictor import SamPredictor

DATA = Path(__file__).with_name("data")
BOXES = np.array([[40, 30, 260, 200], [200.5, 100.25, 390, 290], [5, 5, 60, 50]], np.float32)
CLICKS = np.array([[[150, 110], [200, 140], [20, 260]]], np.float32)
CLICK_LABELS = np.array([[1, 1, 0]])
TOO_LARGE = {"sam-vit-h"}
"""Models that are not run here: test_sam_vit.py runs a small one of their kind against another implementation."""


def seeded_predictor(name: str) -> SamPredictor:
    """The model under its seeded weights."""
    return build_sam(name, weights_for(Source(name).build()))


def outputs(sam: SamPredictor) -> dict[str, np.ndarray]:
    """What the fixture keeps of a model: parts of its embedding, low-res masks and predicted IoU."""
    sam.set_image(picture())
    boxes = sam.predict(boxes=BOXES)
    clicks = sam.predict(points=CLICKS, labels=CLICK_LABELS, multimask_output=False)
    refined = sam.predict(boxes=BOXES[:1], mask_input=boxes.low_res_masks[:1, :1])
    return {
        "embedding": sam.image_embedding[:, ::32, ::8, ::8].numpy(),
        "boxes": boxes.low_res_masks[:, :, ::16, ::16],
        "boxes_iou": boxes.predicted_iou,
        "clicks": clicks.low_res_masks[:, :, ::16, ::16],
        "clicks_iou": clicks.predicted_iou,
        "refined": refined.low_res_masks[:, :, ::16, ::16],
        "refined_iou": refined.predicted_iou,
    }


def main() -> None:
    fixture, layouts = {}, {}
    for name, row in SAMS.items():
        with torch.device("meta"):
            model = row.load()(**row.options).build()
        layouts[name] = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "layout_sha256": layout_digest(model.state_dict()),
        }
        if name not in TOO_LARGE:
            fixture.update({f"{name}/{key}": value for key, value in outputs(seeded_predictor(name)).items()})
        print(name, layouts[name])
    np.savez_compressed(DATA / "parity.npz", **fixture)
    (DATA / "layouts.json").write_text(json.dumps(layouts, indent=1) + "\n")


if __name__ == "__main__":
    main()
