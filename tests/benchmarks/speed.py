"""What the fast paths gain, and what half precision costs. The tables of docs/benchmarks/speed.md come from here.

python -m benchmarks.speed speed                      plain torch beside every back end: encoder; 50 boxes, end to end
python -m benchmarks.speed agree IMAGES ANNOTATIONS   masks of every back end against torch in fp32, on annotated boxes

Plain is `tests/reference/plain_sam.py` after an encoder as it is trained: norms unfolded, biases of attention in full,
NCHW, fp32; every prompt carries its own image tokens, all three masks are upscaled in two full resizes, the best is
picked and encoded by pycocotools. End to end: from the decoded photograph, 640 x 480, to run-length-encoded masks. All
take turns; ratios are taken round by round. Seconds are of the processor (of all threads together), which other work on
the machine disturbs least.

Set OMP_NUM_THREADS for the number of threads. A model without weights here runs on drawn ones, whose masks are ragged
and fill the picture: the worst case for what is done to masks. --draw seeded: those of the tests; --draw random: those
of `evsam benchmark --random-weights`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.boxes import boxes_for
from PIL import Image as Pil
from reference import plain_sam
from support.seeded import weights_for

from pipelines import run_info
from pipelines.benchmark import works
from pipelines.benchmark.subjects import random_weights
from pipelines.benchmark.timing import Failed, Outcome, Times, in_turn
from pipelines.errors import EvsamError
from pipelines.evaluation.miou import iou
from pipelines.export.gate import photographs
from pipelines.sam import BACKENDS, SAMS, build_sam
from pipelines.sam.encoders.vit import Attention
from pipelines.sam.frame import preprocess
from pipelines.sam.model import Sam
from pipelines.sam.network import SamSource
from pipelines.sam.predictor import SamPredictor
from pipelines.types import Rle, UInt8
from weights import store

SUBJECTS = "torch:fp32,torch:bf16,onnx:fp32,openvino:fp32,openvino:bf16"
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    speed_parser = verbs.add_parser("speed")
    speed_parser.add_argument("--rounds", type=int, default=5)
    speed_parser.add_argument("--boxes", type=int, default=50, help="0: the encoder only")
    speed_parser.set_defaults(run=speed)
    agree_parser = verbs.add_parser("agree")
    agree_parser.add_argument("images", type=Path)
    agree_parser.add_argument("annotations", type=Path)
    agree_parser.add_argument("--photos", type=int, help="only so many")
    agree_parser.set_defaults(run=agree)
    for each in (speed_parser, agree_parser):
        each.add_argument("--model", default="efficientvit-sam-l0", choices=list(SAMS))
        each.add_argument("--subjects", default=SUBJECTS, help="back end:precision,...")
        each.add_argument("--fit", type=Path, help="folder of photos that int8 is fitted to, which it needs")
        each.add_argument("--draw", default="seeded", choices=["seeded", "random"])
    options = parser.parse_args()
    here = store.locate(SAMS[options.model].weights or options.model) is not None
    machine = run_info.machine("cpu")
    print(f"{machine['processor']}, {machine['threads']} threads, {json.dumps(run_info.versions())}")
    print(f"{options.model}{'' if here else f' ({options.draw} weights)'}")
    with random_weights([options.model]) as drawn:
        seeded = weights_for(SamSource(SAMS[options.model]).build())
        options.weights = None if here else drawn[options.model] if options.draw == "random" else seeded
        options.run(options)


def build(options: argparse.Namespace) -> dict[str, SamPredictor]:
    """The subjects that can be had here, by name."""
    sams = {}
    for subject in options.subjects.split(","):
        backend, precision = subject.split(":")
        try:
            weights = fit(options, backend) if precision == "int8" else options.weights
            sam = build_sam(options.model, weights, precision=precision, backend=backend)
        except EvsamError as error:
            print(f"left out: {subject}: {error}")
        else:
            sams[f"{backend} {precision}"] = sam
    return sams


def fit(options: argparse.Namespace, backend: str) -> Path:
    """An export in int8."""
    folder = Path(tempfile.mkdtemp())
    parity = (
        BACKENDS[backend]
        .load()()
        .export(
            SamSource(SAMS[options.model], options.weights),
            folder,
            precision="int8",
            calibration=photographs(options.fit, slice(0, None, 2)),
            photos=photographs(options.fit, slice(1, None, 2)),
            stability=0.7,
        )
    )
    print(f"{backend} int8: {json.dumps(parity.record())}")
    return folder


# Speed


def speed(options: argparse.Namespace) -> None:
    photo = works.open_scene(None, 0).image.pixels
    pixels = np.asarray(Pil.fromarray(photo).resize((640, 853)))[200:680].copy()
    boxes = boxes_for(options.boxes, 480, 640)
    plain, sams = SamSource(SAMS[options.model], options.weights).load().eval().requires_grad_(False), build(options)
    for module in plain.modules():
        module.training = isinstance(module, Attention)
    noise = torch.randn(1, 3, plain.input_size, plain.input_size, generator=torch.Generator().manual_seed(0))

    encoders: dict[str, Callable[[], Any]] = {"plain": torch.inference_mode()(lambda: plain.image_encoder(noise))}
    encoders |= {name: works.encode(sam, 1) for name, sam in sams.items()}
    show("encoder", in_turn(encoders, rounds=options.rounds, device=CPU, clock=time.process_time))

    if not options.boxes:
        return
    ends: dict[str, Callable[[], list[Rle]]] = {"plain": lambda: end_to_end_plain(plain, pixels, boxes)}
    ends |= {name: lambda sam=sam: end_to_end(sam, pixels, boxes) for name, sam in sams.items()}
    show(
        f"{options.boxes} boxes, end to end",
        in_turn(ends, rounds=options.rounds, device=CPU, clock=time.process_time),
        masks=True,
    )


@torch.inference_mode()
def end_to_end_plain(model: Sam, pixels: UInt8, boxes: np.ndarray) -> list[Rle]:
    embedding = model.image_encoder(preprocess(pixels, model.input_size).contiguous())
    _, _, rles = plain_sam.segment_boxes(model, embedding, boxes, *pixels.shape[:2])
    return [Rle(size=rle["size"], counts=rle["counts"].decode()) for rle in rles]


def end_to_end(sam: SamPredictor, pixels: UInt8, boxes: np.ndarray) -> list[Rle]:
    sam.set_image(pixels)
    return list(sam.segment_boxes(boxes).rles)


def show(title: str, outcomes: dict[str, Outcome[Any]], masks: bool = False) -> None:
    """As a Markdown table; masks: results are masks, to be compared with the first's."""
    print("".join(f"left out: {name}: {one.reason}\n" for name, one in outcomes.items() if isinstance(one, Failed)))
    times = {name: one for name, one in outcomes.items() if isinstance(one, Times)}
    first = next(iter(times.values()))
    print(f"\n| {title} | ms | range | times as fast as plain |{' mask IoU, mean | worst |' if masks else ''}")
    print(f"| --- | ---: | --- | ---: |{' ---: | ---: |' if masks else ''}")
    for name, one in times.items():
        least, most = (1000 * bound for bound in (min(one.seconds), max(one.seconds)))
        cells = [name, f"{1000 * one.median:.0f}", f"{least:.0f} to {most:.0f}", f"{one.faster_than(first):.2f}"]
        if masks:
            ious = [iou(a, b) for a, b in zip(one.result, first.result, strict=True)]
            cells += [f"{np.mean(ious):.4f}", f"{min(ious):.4f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


# Agreement


def agree(options: argparse.Namespace) -> None:
    """IoU of every subject's masks with the first's, over all annotated boxes of things that are no crowd."""
    content = json.loads(options.annotations.read_text())
    boxes: dict[int, list[list[float]]] = {}
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        if not annotation.get("iscrowd") and width >= 1 and height >= 1:
            boxes.setdefault(annotation["image_id"], []).append([x, y, x + width, y + height])
    photos = [image for image in content["images"] if image["id"] in boxes][: options.photos]
    sams = build(options)
    first, *others = sams
    ious: dict[str, list[float]] = {name: [] for name in others}
    for photo in photos:
        pixels = np.asarray(Pil.open(options.images / photo["file_name"]).convert("RGB"))
        rles = {name: end_to_end(sam, pixels, np.array(boxes[photo["id"]])) for name, sam in sams.items()}
        for name in others:
            ious[name] += [iou(a, b) for a, b in zip(rles[name], rles[first], strict=True)]
    print(f"\n| against {first}, {len(photos)} photos | boxes | mask IoU, mean | share above 0.98 | share below 0.9 |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, values in ious.items():
        above, below = np.mean(np.array(values) > 0.98), np.mean(np.array(values) < 0.9)
        print(f"| {name} | {len(values)} | {np.mean(values):.4f} | {above:.3f} | {below:.3f} |")


if __name__ == "__main__":
    main()
