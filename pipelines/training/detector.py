"""A YOLO detector from the same masks, by ultralytics' own trainer: class-agnostic, to find any object before SAM
(object-aware prompts, MobileSAMv2, arXiv 2312.09579), or with the data's classes."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines.detectors import (
    DETECTORS,
    quiet_ultralytics,  # noqa: F401  sets ultralytics' switches, before it is imported below
)
from pipelines.detectors.checkpoint import read_checkpoint
from pipelines.device import check_device, pick_device
from pipelines.errors import DataError, UsageError
from pipelines.files import check_folder, make_folder, replacing, write_text
from pipelines.notes import counted_notes
from pipelines.training.config import DataConfig, YoloConfig
from pipelines.training.regions import Photo
from pipelines.training.sources import DataSource, open_source
from pipelines.types import Image
from weights import store

SETTINGS = "settings.json"


def run(config: YoloConfig, folder: Path, *, resume: bool = False) -> Path:
    """Train, or with `resume` go on with the run in `folder`; returns the path of the best weights (.pt).

    The data sets are laid out for YOLO under `folder`/data, photos as links. Raises UsageError for settings that cannot
    be used, when `folder` holds a run and `resume` is not given, and when it is one of other settings; DataError for
    data that cannot be used.
    """
    from ultralytics.models import YOLO

    check_folder(folder)
    folder = folder.absolute()
    weights = folder / "run" / "weights"
    if not (weights / "last.pt").exists():
        model = _network(config)
        arguments = _arguments(config, folder)
        if config.weights is None:
            row = DETECTORS[config.model]
            _start_from(store.fetch(row.weights or row.name), model)
        write_text(folder / SETTINGS, _as_text(config))
    elif not resume:
        raise UsageError(f"{folder} holds a run: go on with --resume, or name another folder")
    elif (folder / SETTINGS).read_text(encoding="utf-8") != _as_text(config):
        raise UsageError(f"{folder} holds a run with other settings: go on with the same ones, or name another folder")
    else:
        model, arguments = YOLO(weights / "last.pt"), {"resume": True}
        if model.ckpt["epoch"] < 0:  # how ultralytics marks a run that is complete
            return weights / "best.pt"
    model.add_callback("on_model_save", _report)
    if config.precision == "bf16-mixed":
        model.add_callback("on_train_start", _in_bfloat16)
    model.train(**arguments)
    return weights / "best.pt"


def _as_text(config: YoloConfig) -> str:
    """The settings that decide the weights, as JSON."""
    settings = dataclasses.asdict(config)
    return json.dumps({name: value for name, value in settings.items() if name not in ("device", "workers")})


def _arguments(config: YoloConfig, folder: Path) -> dict[str, Any]:
    """What ultralytics' trainer is told. Its mixed precision is off: it would download a model to test itself with, and
    does not work on a CPU."""
    from ultralytics.cfg import get_cfg

    device = pick_device(config.device)
    check_device(device.split(",")[0])
    try:
        get_cfg(overrides=config.options)
    except (SyntaxError, TypeError, ValueError) as error:
        raise UsageError(f"[options] for ultralytics' trainer: {str(error).strip().splitlines()[0]}") from error
    return {
        "data": str(layout(config, folder / "data")),
        "imgsz": config.size,
        "epochs": config.epochs,
        "batch": config.batch,
        "device": device,
        "workers": config.workers,
        "seed": config.seed,
        "project": str(folder),
        "name": "run",
        "exist_ok": True,
        "plots": False,
        "amp": False,
        **config.options,
    }


def layout(config: YoloConfig, folder: Path) -> Path:
    """Lay the data sets out as ultralytics wants them; returns the path of data.yaml.

    folder: absolute; gets images/ (links to the photos), labels/ (one text file a photo), a list of the photos of
    either split, and data.yaml.
    """
    if not config.data or config.validation is None:
        raise DataError("a detector needs training data and a validation set: give --data and --val")
    train = [_open(data) for data in config.data]
    held_out = [_open(config.validation)]
    told = [(note, source.name) for source in (*train, *held_out) for note in source.notes]
    names = _class_names([*train, *held_out]) if config.class_aware else ["object"]
    make_folder(folder)
    for split, sources in (("train", train), ("val", held_out)):
        photos = [
            _lay(source, i, folder, f"{split}/{n}-{i}", names, told)
            for n, source in enumerate(sources)
            for i in range(len(source))
        ]
        write_text(folder / f"{split}.txt", "".join(f"{photo}\n" for photo in photos))
    for note in counted_notes(told):
        print(f"note: {note}", file=sys.stderr)
    rows = "".join(f"  {i}: {_quoted(name)}\n" for i, name in enumerate(names))
    text = f"path: {_quoted(str(folder))}\ntrain: train.txt\nval: val.txt\nnames:\n{rows}"
    write_text(folder / "data.yaml", text)
    return folder / "data.yaml"


def _lay(
    source: DataSource, index: int, folder: Path, name: str, names: Sequence[str], told: list[tuple[str, str]]
) -> Path:
    """Put down one photo and its labels; returns the photo's path. told: gets the photo's notes, with its name."""
    photo = source[index]
    classes = {key: names.index(value) if value in names else 0 for key, value in source.categories.items()}
    path = folder / "images" / f"{name}{photo.path.suffix.lower()}"
    image = photo.image()
    told += [(note, image.name) for note in image.notes]
    write_text(folder / "labels" / f"{name}.txt", label_lines(photo, image.height, image.width, classes))
    _link(photo, image, path)
    return path


def label_lines(photo: Photo, height: int, width: int, classes: Mapping[int, int]) -> str:
    """YOLO's text for a photo: per region, its class and its mask's box as shares of the photo (cx, cy, w, h).

    classes: category id -> class number. Crowds and empty masks are left out.
    """
    lines = []
    for region in photo.regions:
        mask = None if region.crowd else photo.mask(region, height, width)
        if mask is None or not mask.any():
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        left, right, top, bottom = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
        box = ((left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height)
        lines.append(" ".join([str(classes[region.category_id]), *(f"{value:.6f}" for value in box)]) + "\n")
    return "".join(lines)


def _network(config: YoloConfig) -> Any:
    """An ultralytics model, with the weights of a file where one is named. Raises UsageError for a name, or starting
    weights, that are not there, and WeightsError for a file that is none."""
    from ultralytics.models import YOLO

    if not DETECTORS[config.model].name.startswith("yolov8"):
        raise UsageError(f"{config.model} names no architecture to train; choose one of yolov8n, s, m, l, x")
    if config.weights and not Path(config.weights).is_file():
        raise UsageError(f"no weights at {config.weights}")
    model = YOLO(f"{config.model}.yaml")
    if config.weights:
        _start_from(Path(config.weights), model)
    return model


def _start_from(path: Path, model: Any) -> None:
    """Give the model its starting weights, which are read without running code they may bring."""
    network = read_checkpoint(path)
    model.load(network)
    model.ckpt = {"model": network}  # tells the trainer that there are weights to take over


def _in_bfloat16(trainer: Any) -> None:
    """Run the network that is trained in mixed bfloat16, channels last; the loss stays fp32, as does the averaged
    network, which is validated and saved."""
    import torch

    network, predict = trainer.model, trainer.model.predict
    if trainer.device.type == "cpu":  # on CUDA ultralytics does so itself
        network.to(memory_format=torch.channels_last)

    def mixed(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(trainer.device.type, torch.bfloat16):
            return _floats(predict(*args, **kwargs))

    network.predict = mixed


def _floats(value: Any) -> Any:
    """Nested lists, tuples and dicts of tensors, with the tensors in fp32."""
    if isinstance(value, dict):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_floats(item) for item in value)
    return value.float()


def _report(trainer: Any) -> None:
    """One line per epoch; ultralytics' own output is off."""
    figures = "  ".join(f"{name} {float(value):.4g}" for name, value in trainer.metrics.items())
    print(f"epoch {trainer.epoch + 1}/{trainer.epochs}  {figures}", flush=True)


def _open(data: DataConfig) -> DataSource:
    return open_source(Path(data.path), Path(data.images) if data.images else None)


def _class_names(sources: Sequence[DataSource]) -> list[str]:
    return list(dict.fromkeys(name for source in sources for name in source.categories.values()))


def _link(photo: Photo, image: Image, path: Path) -> None:
    """Put the photo at `path`: a link, or a copy where that cannot be or EXIF would turn the photo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if image.orientation != 1:
        with replacing(path) as temporary:
            cv2.imwrite(str(temporary), np.ascontiguousarray(image.pixels[:, :, ::-1]))
        return
    try:
        path.symlink_to(photo.path.absolute())
    except OSError:
        shutil.copyfile(photo.path, path)


def _quoted(text: str) -> str:
    """A YAML string."""
    return "'" + text.replace("'", "''") + "'"
