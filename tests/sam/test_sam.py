"""The predictor: equal to the plain formulation, in its promised shapes, strict with weights and prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask
from reference import plain_sam
from safetensors.torch import save_file
from support.seeded import picture, seeded_predictor, weights_for

from pipelines import rle
from pipelines.device import bf16_supported
from pipelines.errors import UsageError, WeightsError
from pipelines.sam import SAMS, build_sam, list_sams
from pipelines.sam.layers import resize, resize_by_products
from pipelines.sam.masks import Upscaler
from pipelines.sam.predictor import SamPredictor
from pipelines.sam.run_lengths import compressed

STARTER = "evsam-starter"


def some_boxes(count: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    centres, sizes = rng.uniform(0.05, 0.95, (count, 2)) * [width, height], rng.uniform(20, 200, (count, 2))
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], 1).clip(0, [width, height] * 2).astype(np.float32)


@pytest.mark.parametrize("name", [STARTER, "efficientvit-sam-l0"])
def test_fast_path_equals_the_plain_formulation(name: str, photograph: np.ndarray, starter: SamPredictor) -> None:
    sam = starter if name == STARTER else seeded_predictor(name)
    height, width = photograph.shape[:2]
    boxes = some_boxes(9, height, width)
    sam.set_image(photograph)
    fast = sam.segment_boxes(boxes)
    logits, ious, rles = plain_sam.segment_boxes(sam.model, sam.image_embedding, boxes, height, width)
    np.testing.assert_allclose(fast.predicted_iou, ious, rtol=1e-5, atol=1e-6)
    plain_masks = np.stack([coco_mask.decode(r) for r in rles]).astype(bool)
    fast_masks = np.stack([rle.decode(r) for r in fast.rles])
    assert plain_masks.any() and not plain_masks.all()
    assert (plain_masks != fast_masks).mean() <= 1e-5
    for stability, plain in zip(fast.stability_score, logits, strict=True):
        assert stability == pytest.approx(float((plain > 1).sum() / (plain > -1).sum()), abs=1e-5)


def test_low_res_logits_equal_the_plain_formulation(photograph: np.ndarray, starter: SamPredictor) -> None:
    starter.set_image(photograph)
    clicks = np.array([[[200, 150], [300, 200]]], np.float32)
    prediction = starter.predict(points=clicks, labels=[[1, 0]])
    with torch.inference_mode():
        scaled = torch.from_numpy(clicks) * 1024 / 640
        sparse, dense = starter.model.prompt_encoder(scaled, torch.tensor([[1, 0]]))
        plain, iou = plain_sam.decode(starter.model, starter.image_embedding, sparse, dense)
        masks = plain_sam.upscale(plain[:, 1:], *photograph.shape[:2]) > 0
    error = np.linalg.norm(prediction.low_res_masks - plain[:, 1:].numpy()) / np.linalg.norm(plain[:, 1:].numpy())
    assert error < 1e-5
    np.testing.assert_allclose(prediction.predicted_iou, iou[:, 1:], rtol=1e-5)
    assert (prediction.masks != masks.numpy()).mean() <= 1e-5


def test_training_forward_decodes_several_images_in_one_call(photograph: np.ndarray) -> None:
    row = SAMS[STARTER]
    model = row.load()(**row.options).build()
    model.load_state_dict(weights_for(model))
    model.eval()
    pixels = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    boxes = torch.from_numpy(some_boxes(3, 1024, 1024))
    index = torch.tensor([0, 1, 1])
    with torch.inference_mode():
        low_res, iou = model(pixels, index, boxes=boxes)
        for i, owner in enumerate(index):
            embedding = model.image_encoder(pixels[owner][None])
            sparse, dense = model.prompt_encoder(boxes=boxes[i : i + 1])
            plain, plain_iou = plain_sam.decode(model, embedding, sparse, dense)
            torch.testing.assert_close(low_res[i : i + 1], plain, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(iou[i : i + 1], plain_iou, rtol=1e-4, atol=1e-5)


def test_predict_shapes_and_single_mask(starter: SamPredictor) -> None:
    starter.set_image(picture(90, 130))
    boxes = some_boxes(5, 90, 130)
    three = starter.predict(boxes=boxes)
    one = starter.predict(boxes=boxes, multimask_output=False)
    assert starter.image_embedding.shape == (1, 256, 64, 64)
    assert three.masks.shape == (5, 3, 90, 130) and three.masks.dtype == np.bool_
    assert three.predicted_iou.shape == (5, 3) and three.low_res_masks.shape == (5, 3, 256, 256)
    assert one.masks.shape == (5, 1, 90, 130)
    best = starter.segment_boxes(boxes)
    for i, column in enumerate(three.predicted_iou.argmax(1)):
        np.testing.assert_array_equal(rle.decode(best.rles[i]), three.masks[i, column])
    assert len(starter.segment_boxes(np.zeros((0, 4)))) == 0
    assert starter.predict(boxes=np.zeros((0, 4))).masks.shape == (0, 3, 90, 130)


def test_one_prompt_in_the_names_of_segment_anything(starter: SamPredictor) -> None:
    starter.set_image(picture(90, 130))
    masks, scores, logits = starter.predict(point_coords=np.array([[60, 40], [10, 10]]), point_labels=np.array([1, 0]))
    many = starter.predict(points=[[[60, 40], [10, 10]]], labels=[[1, 0]])
    assert (masks.shape, scores.shape, logits.shape) == ((3, 90, 130), (3,), (3, 256, 256))
    np.testing.assert_array_equal(logits, many.low_res_masks[0])
    again = {"box": np.array([20, 10, 100, 70]), "mask_input": logits[:1], "multimask_output": False}
    refined = starter.predict(point_coords=np.array([[60, 40]]), point_labels=np.array([1]), **again)
    assert refined.masks.shape == (1, 90, 130)
    both = {"boxes": [[20, 10, 100, 70]], "mask_input": logits[None, :1], "multimask_output": False}
    np.testing.assert_array_equal(refined.masks, starter.predict(points=[[[60, 40]]], labels=[[1]], **both).masks[0])


def test_prompts_do_not_depend_on_their_chunk(starter: SamPredictor) -> None:
    starter.set_image(picture())
    boxes = some_boxes(11, 300, 400)
    together = starter.predict(boxes=boxes).low_res_masks
    alone = np.concatenate([starter.predict(boxes=box[None]).low_res_masks for box in boxes])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-3)


@pytest.mark.skipif(not bf16_supported(torch.device("cpu")), reason="this CPU has no bfloat16 arithmetic")
def test_bf16_masks_follow_fp32(photograph: np.ndarray, starter: SamPredictor) -> None:
    boxes = some_boxes(8, *photograph.shape[:2])
    masks = []
    for sam in (starter, build_sam(STARTER, precision="bf16")):
        sam.set_image(photograph)
        masks.append(sam.predict(boxes=boxes, multimask_output=False).masks)
    a, b = masks
    assert ((a & b).sum((1, 2, 3)) / (a | b).sum((1, 2, 3))).mean() > 0.97


@st.composite
def placed(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Up to 4 masks N x H x W, what of them lies in a rectangle, N x w x h, and its corner x0, y0."""
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    x0, x1 = sorted(draw(st.tuples(*[st.integers(0, width)] * 2)))
    y0, y1 = sorted(draw(st.tuples(*[st.integers(0, height)] * 2)))
    masks = np.zeros((draw(st.integers(0, 4)), height, width), bool)
    parts = draw(hnp.arrays(bool, (len(masks), x1 - x0, y1 - y0)))
    masks[:, y0:y1, x0:x1] = parts.transpose(0, 2, 1)
    return masks, parts, x0, y0


@given(placed())
def test_region_runs_equal_pycocotools(drawn: tuple[np.ndarray, np.ndarray, int, int]) -> None:
    masks, parts, x0, y0 = drawn
    for mask, region in zip(masks, parts, strict=True):
        assert rle.from_runs(rle.region_runs(region, x0, y0, *mask.shape), *mask.shape) == rle.encode(mask)


@given(placed())
def test_masks_compressed_together_equal_pycocotools(drawn: tuple[np.ndarray, np.ndarray, int, int]) -> None:
    masks, parts, x0, y0 = drawn
    assert compressed(torch.from_numpy(parts), x0, y0, *masks.shape[1:]) == [rle.encode(mask) for mask in masks]


def test_long_runs_compressed_together_equal_pycocotools() -> None:
    masks = np.zeros((3, 5000, 900), bool)
    masks[0, 3000, 5:7] = masks[1, 10:4000] = masks[1, 4100, 3] = True
    wanted = [rle.encode(mask.T) for mask in masks]
    assert compressed(torch.from_numpy(masks), 0, 0, 900, 5000) == wanted


ROOM = 1e-3
"""Two ways to the same logit may differ by this much, and so be on either side of a threshold."""


def stability_bounds(logits: np.ndarray, offset: float) -> tuple[float, float]:
    """What the stability score can be where each logit is off by ROOM at most."""
    inner, outer = ([int((logits > level + room).sum()) for room in (ROOM, -ROOM)] for level in (offset, -offset))
    return inner[0] / max(outer[1], 1) - 1e-6, min(inner[1] / max(outer[0], 1), 1) + 1e-6


@settings(max_examples=20)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32 - 1), st.floats(0, 2), st.floats(0, 1))
def test_cpu_and_gpu_keep_the_stable_masks_as_the_plain_formulation_has_them(
    height: int, width: int, seed: int, offset: float, least: float
) -> None:
    drawn = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 3
    low = F.interpolate(drawn + torch.linspace(-9, 4, 5)[:, None, None, None], (256, 256), mode="bicubic")
    plain = plain_sam.upscale(low, height, width)[:, 0].numpy()
    bounds = [stability_bounds(logits, offset) for logits in plain]
    certain = {i for i, (least_it_is, _) in enumerate(bounds) if least_it_is >= least and plain[i].max() > ROOM}
    possible = {i for i, (_, most_it_is) in enumerate(bounds) if most_it_is >= least and plain[i].max() > -ROOM}
    wide = np.pad(plain, ((0, 0), (1, 3), (2, 1)), constant_values=-1)
    upscaler = Upscaler(height, width, torch.device("cpu"))
    for way in (upscaler.stable_masks, upscaler.masks_on_gpu):  # on a CPU, on a GPU
        kept, rles, scores = way(low[:, 0], offset, least, *wide.shape[1:], 2, 1)
        assert certain <= set(kept.tolist()) <= possible
        for i, mask, score in zip(kept, rles, scores, strict=True):
            assert bounds[i][0] <= score <= bounds[i][1]
            differing = rle.decode(mask) != (wide[i] > 0)
            assert (np.abs(wide[i][differing]) < ROOM).all()
    assert len(upscaler.masks_on_gpu(low[:, 0], offset, None, height, width)[1]) == 5


@settings(max_examples=30)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32 - 1), st.floats(-4, 4))
def test_segment_equals_two_full_resizes(height: int, width: int, seed: int, shift: float) -> None:
    low = F.interpolate(
        torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 3 + shift, (256, 256), mode="bicubic"
    )
    full = plain_sam.upscale(low, height, width)[0, 0]
    upscaler = Upscaler(height, width, torch.device("cpu"))
    torch.testing.assert_close(upscaler.to_logits(low)[0, 0], full, rtol=1e-4, atol=1e-4)
    rles, stabilities = upscaler.to_masks(low[0])
    differing = rle.decode(rles[0]) != (full > 0).numpy()
    assert (full.abs().numpy()[differing] < ROOM).all()
    least, most = stability_bounds(full.numpy(), 1)
    assert least <= stabilities[0] <= most


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_checkpoints_load_strictly(tmp_path: Path, suffix: str) -> None:
    row = SAMS[STARTER]
    state = weights_for(row.load()(**row.options).build())
    path = tmp_path / f"model{suffix}"

    def write(content: dict[str, torch.Tensor]) -> None:
        save_file(content, path) if suffix == ".safetensors" else torch.save(content, path)

    write(state)
    assert build_sam(STARTER, path).name == STARTER
    write({key: value for key, value in state.items() if key != "mask_decoder.iou_token.weight"})
    with pytest.raises(WeightsError, match=r"mask_decoder\.iou_token\.weight"):
        build_sam(STARTER, path)
    write({**state, "mask_decoder.iou_token.weight": torch.zeros(2, 256)})
    with pytest.raises(WeightsError, match=r"mask_decoder\.iou_token\.weight"):
        build_sam(STARTER, path)
    write({**state, "stranger": torch.zeros(1)})
    with pytest.raises(WeightsError, match="stranger"):
        build_sam(STARTER, path)


def test_nothing_runs_on_random_weights() -> None:
    with pytest.raises(WeightsError, match="evsam weights pull efficientvit-sam-l0"):
        build_sam("efficientvit-sam-l0", offline=True)


def test_wrong_requests_are_refused(starter: SamPredictor) -> None:
    for build, match in (
        (lambda: build_sam("sam-9000"), ", ".join(list_sams())),
        (lambda: build_sam(STARTER, device="toaster"), "toaster"),
        (lambda: build_sam(STARTER, precision="fp3"), "fp32"),
        (lambda: starter.set_image(np.zeros((4, 4), np.uint8)), "H x W x 3"),
        (lambda: starter.set_image(np.zeros((4, 4, 3), np.float32)), "uint8"),
        (lambda: starter.predict(), "prompt"),
        (lambda: starter.predict(boxes=[1, 2, 3, 4]), "N x 4"),
        (lambda: starter.predict(boxes=[[1, 2, 3, 4]], box=[1, 2, 3, 4]), "one prompt .* or many"),
        (lambda: starter.predict(point_coords=[[1, 2]]), "labels"),
        (lambda: starter.predict(boxes=[[1, 2, 3, np.nan]]), "finite"),
        (lambda: starter.predict(points=[[[1, 2]]]), "labels"),
        (lambda: starter.predict(points=[[[1, 2]]], labels=[[1, 0]]), "one length"),
        (lambda: starter.predict(boxes=[[1, 2, 3, 4]], points=[[[1, 2]]] * 2, labels=[[1]] * 2), "number"),
    ):
        starter.set_image(picture(20, 20))
        with pytest.raises(UsageError, match=match):
            build()


@pytest.mark.parametrize("side", [16, 32])
def test_a_resize_by_products_equals_torchs(side: int) -> None:
    x = torch.randn(2, 8, side, side, generator=torch.Generator().manual_seed(0))
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.testing.assert_close(resize_by_products(x.contiguous(memory_format=layout), 64), resize(x, 64))
