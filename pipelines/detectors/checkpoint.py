"""Reading an ultralytics .pt, which is a pickle, without running any code that the file brings."""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from pipelines.detectors import quiet_ultralytics
from pipelines.errors import SetupError, WeightsError
from weights.loading import refuse_compressed

tasks: Any = quiet_ultralytics.tasks  # untyped


def read_checkpoint(path: Path) -> torch.nn.Module:
    """The detection model of a checkpoint, in fp32 on the CPU; its `trained_size` is the input size, in pixels, that it
    was trained at, as `YOLO.predict` takes it. Of a model that makes masks, too, what makes its boxes.

    ultralytics' restricted reader (`torch.load` with `weights_only=True`) admits nothing but its own and torch's
    layers and the values they hold, and evaluates no text. Raises WeightsError for every other file.
    """
    scanner = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)
    if scanner is None or not hasattr(tasks, "SAFE_LOAD"):  # older ones read without the restriction
        raise SetupError("reading a .pt safely needs torch >= 2.6 and ultralytics >= 8.4.67: upgrade them")
    refuse_compressed(path)
    with tempfile.TemporaryDirectory(prefix="evsam-") as folder:
        # A plain path: the reader drops quotes from it, renames yolov5n.pt and its like, and downloads what it misses.
        copy = shutil.copyfile(path, Path(folder, "model.pt"))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pickles that torch.save never wrote
                checkpoint, _ = tasks.torch_safe_load(copy, safe_only=True)
        except Exception as error:
            if foreign := re.search(r"GLOBAL (\S+)", f"{error} {error.__cause__}"):
                raise WeightsError(
                    f"{path} was refused: it asks to load {foreign[1]}, which no ultralytics detection model "
                    "needs and which could run code on this machine"
                ) from error
            raise WeightsError(
                f"{path} is not a checkpoint that ultralytics can read: damaged, or another kind of file"
            ) from error
    ema = checkpoint.get("ema")
    model = checkpoint.get("model") if ema is None else ema
    if type(model) is tasks.SegmentationModel and type(model.model[-1]) is tasks.Segment:
        model.__class__, model.model[-1].__class__ = tasks.DetectionModel, tasks.Detect
    if type(model) is not tasks.DetectionModel:
        raise WeightsError(f"{path} holds a {type(model).__name__}, but evsam needs a YOLO detection model")
    model.end2end = False  # where the model offers both: boxes that are suppressed at `iou`, as in YOLO.predict
    trained = checkpoint.get("train_args")
    size = trained.get("imgsz") if isinstance(trained, dict) else None
    model.trained_size = size if isinstance(size, int) else 640
    fp32: torch.nn.Module = model.float()
    return fp32
