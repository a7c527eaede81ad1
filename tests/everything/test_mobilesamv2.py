"""MobileSAMv2: its files make one model, and everything is found by its authors' rules."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image as Pil
from pycocotools import mask as coco_mask
from reference import plain_mobilesamv2
from support.loopback_hub import Reply
from support.runs import evsam
from support.seeded import official_layout, official_weights
from support.tiny_yolo import make_yolo
from support.weights_shelf import Shelf
from torch import Tensor

from pipelines.sam import SAMS, build_sam
from pipelines.sam.encoders.efficientvit import Small
from pipelines.sam.encoders.mobilesamv2 import DECODER, Halved, official
from pipelines.sam.model import Sam
from pipelines.sam.network import SamSource
from weights import digest

NAME = "mobilesamv2-tinyvit"


def decoder_file(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """What the decoder's file would hold: other tensors than the encoder's file has, which is of a whole SAM."""
    return {
        part[:-1]: {key.removeprefix(own): x.flip(0) for key, x in state.items() if key.startswith(own)}
        for part, own in DECODER.items()
    }


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One class, a mask branch, half precision, and scores on both sides of 0.4."""
    path = make_yolo(tmp_path_factory.mktemp("yolo") / "object.pt", architecture="v8/yolov8-seg", names=["object"])
    checkpoint = torch.load(path, weights_only=False)
    for branch in checkpoint["model"].model[-1].cv3:
        branch[-1].bias.data += 2
    torch.save(checkpoint, path)
    return path


@pytest.fixture
def published(shelf: Shelf, detector: Path) -> dict[str, Tensor]:
    """Everything on a server, in the order in which it is asked for; the SAM's tensors under the network's names."""
    state = official_weights("mobile-sam")
    decoder = decoder_file(state)
    files = {("object-aware", "ObjectAwareModel.pt"): detector.read_bytes(),
             (NAME, "mobile_sam.pt"): saved(state),
             (NAME, "Prompt_guided_Mask_Decoder.pt"): saved(decoder)}  # fmt: skip
    for (name, file), body in files.items():
        kind = {"kind": "ultralytics"} if name == "object-aware" else {}
        shelf.add(name, url=f"{shelf.hub.url}/a/{file}", about_bytes=len(body), **kind)
        shelf.hub.replies.append(Reply(body=body))
    tuned = {own + key: x for (part, own) in DECODER.items() for key, x in decoder[part[:-1]].items()}
    return official(state) | tuned


def test_files_are_fetched_and_asked_by_the_authors_rules(
    published: dict[str, Tensor], detector: Path, photographs: list[Path], tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    Pil.open(photographs[1]).convert("RGB").resize((200, 150)).save(photo)
    evsam("everything", photo, "-o", tmp_path / "out", "--sam", NAME, "--save", "amg-rle,jsonl")

    rgb = np.array(Pil.open(photo))
    boxes = plain_mobilesamv2.boxes(detector, rgb)
    (record,) = map(json.loads, (tmp_path / "out/records.jsonl").read_text("utf-8").splitlines())
    ours = np.array([[*row["bbox"][:2], row["bbox"][0] + row["bbox"][2], row["bbox"][1] + row["bbox"][3]] 
                     for row in record["instances"]])  # fmt: skip
    np.testing.assert_allclose(ours, boxes, atol=1e-2)
    swapped = plain_mobilesamv2.boxes(detector, rgb[..., ::-1].copy())
    assert swapped.shape != boxes.shape or np.abs(swapped - boxes).max() > 1

    sam = build_sam(NAME, published)
    sam.set_image(rgb)
    masks = sam.predict(boxes=boxes, multimask_output=False).masks[:, 0]
    for row, mask in zip(record["instances"], masks, strict=True):
        assert (coco_mask.decode(row["segmentation"]) != mask).mean() < 1e-3
    run = json.loads((tmp_path / "out/run.json").read_text("utf-8"))
    asked = run["settings"]["prompts"]
    assert {key: asked[key] for key in ("kind", "model", "conf", "iou", "max_det")} == {
        "kind": "objects", "model": "object-aware", "conf": 0.4, "iou": 0.9, "max_det": 300
    }  # fmt: skip


def test_the_files_make_one_model(published: dict[str, Tensor], shelf: Shelf) -> None:
    shelf.hub.replies.popleft()
    loaded = SamSource(SAMS[NAME]).load().state_dict()
    assert loaded.keys() == published.keys()
    assert all(torch.equal(x, published[key]) for key, x in loaded.items())
    told = SamSource(SAMS[NAME]).sha256()
    decoder = shelf.home / "weights" / NAME / "Prompt_guided_Mask_Decoder.pt"
    decoder.write_bytes(saved(decoder_file(published)))
    digest.write_lock(decoder, digest.sha256(decoder))
    assert SamSource(SAMS[NAME]).sha256() != told


def test_an_encoder_whose_names_start_otherwise_loads() -> None:
    layout = official_layout("efficientvit-sam-l2")
    decoder = {f"{part}.{key}": x for part, inner in decoder_file(layout).items() for key, x in inner.items()}
    state = official({f"module.{key}": x for key, x in layout.items()} | decoder)
    assert {key: x.shape for key, x in state.items()} == {key: x.shape for key, x in layout.items()}


def test_efficientvit_sees_the_input_of_sam_halved() -> None:
    encoder = Halved(Small(widths=(8, 16, 16, 32, 64), depths=(1, 1, 1, 1, 1), neck_depth=1, neck_width=64), 512).eval()
    pixels = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        half = F.interpolate(pixels, size=(512, 512), mode="bilinear")
        wanted = super(Halved, encoder).forward(half)
        assert encoder(pixels).shape == (1, 256, 64, 64)
        torch.testing.assert_close(encoder(pixels), wanted, rtol=1e-4, atol=1e-5)
    with torch.device("meta"):
        built = SAMS["mobilesamv2"].load()(**SAMS["mobilesamv2"].options).build()
    assert isinstance(built, Sam) and isinstance(built.image_encoder, Halved) and built.input_size == 1024
