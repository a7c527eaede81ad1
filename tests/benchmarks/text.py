"""The detector stage of `evsam text`, work done once against every time: `python -m benchmarks.text [--threads N]`.

Grounding DINO Swin-T at its real size, random weights (they cost the same), photographs at 800 pixels, on the CPU or a
GPU. Two comparisons, in turn on the same image:

- text encoded once a run, or once for each image, as the libraries do; for a short caption and for a full one
- with --per-phrase, the image's features computed once, or once for each phrase

Seconds are of the processor (of all threads together), which other work on the machine disturbs least; on a GPU, of the
clock.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pil
from support import tiny_text

from pipelines import run_info
from pipelines.detectors.text.bert import BertConfig
from pipelines.detectors.text.grounding_dino import FeaturesOnce, GroundingDino, TextOnce
from pipelines.detectors.text.hugging_face import HuggingFaceGroundingDino
from pipelines.detectors.text.official import OfficialGroundingDino
from pipelines.types import Image

SHORT = ["cat", "red car", "person in red"]
FULL = [f"{colour} {thing}" for colour in tiny_text.WORDS[:6] for thing in tiny_text.WORDS[6:20]][:84]


def build(backend: str, folder: Path, device: str) -> GroundingDino:
    file = "groundingdino_swint_ogc.pth"
    state = tiny_text.write_official(folder / "a", tiny_text.official_settings(), BertConfig(), file, refill=False)
    if backend == "official":
        return OfficialGroundingDino(folder / "a" / file, config="GroundingDINO_SwinT_OGC", device=device)
    tiny_text.write_hugging_face(folder / "b", state, BertConfig())
    weights = folder / "b" / "model.safetensors"
    return HuggingFaceGroundingDino(weights, architecture="GroundingDinoForObjectDetection", device=device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backend", nargs="?", default="official", choices=["official", "transformers"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--images", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    on_gpu = options.device != "cpu"

    def seconds(work: Callable[[], object]) -> float:
        clock = time.perf_counter if on_gpu else time.process_time
        start = clock()
        work()
        if on_gpu:
            torch.cuda.synchronize()
        return clock() - start

    from ultralytics import ASSETS

    photos = [Image(path.name, np.array(Pil.open(path).convert("RGB"))) for path in sorted(ASSETS.glob("*.jpg"))]
    with tempfile.TemporaryDirectory() as folder:
        model = build(options.backend, Path(folder), options.device)
    texts, features = (
        next(module for module in model._model.modules() if isinstance(module, kind))
        for kind in (TextOnce, FeaturesOnce)
    )

    def encoded_each_time(image: Image) -> None:
        texts.forget()
        model([image])

    def seen_each_time(image: Image, captions: list[object]) -> None:
        for caption in captions:
            model._captions = [caption]
            model([image])
        model._captions = captions

    def compare(name: str, once: Callable[[Image], object], each: Callable[[Image], object]) -> None:
        once(photos[0])  # warm, and the text encoded
        pairs = []
        for number in range(options.images):
            image = photos[number % len(photos)]
            pairs.append((seconds(lambda image=image: once(image)), seconds(lambda image=image: each(image))))
        mine, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
        gains = [100 * (slow / fast - 1) for fast, slow in pairs]
        print(
            f"{name:40} once {mine:7.3f} s  each time {theirs:7.3f} s  "
            f"+{statistics.median(gains):.1f} % ({min(gains):.1f} to {max(gains):.1f})",
            flush=True,
        )

    machine = run_info.machine(options.device)
    print(f"{options.backend}, {machine.get('gpu', machine['processor'])}, {options.threads} threads")
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {options.images} images", flush=True)
    for name, phrases in (("text, 3 phrases", SHORT), ("text, 84 phrases", FULL)):
        model.read(phrases, alone=False)
        (caption,) = model._captions
        compare(f"{name} ({len(caption.token_ids)} tokens)", lambda image: model([image]), encoded_each_time)
    model.read(SHORT, alone=True)
    captions = list(model._captions)
    compare("features, --per-phrase, 3 phrases", lambda image: model([image]), lambda i: seen_each_time(i, captions))
    assert features._canvas is None


if __name__ == "__main__":
    main()
