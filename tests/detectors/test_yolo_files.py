"""Files that hold no YOLO, are damaged or would do harm: refused in one line, and never run."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_yolo import detector, make_yolo

from pipelines.detectors.checkpoint import read_checkpoint
from pipelines.detectors.quiet_ultralytics import tasks
from pipelines.errors import WeightsError

pytestmark = pytest.mark.usefixtures("one_thread")  # YOLO.predict changes their number, and with it the last digits


@pytest.fixture(scope="module")
def coco_yolo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_yolo(tmp_path_factory.mktemp("weights") / "coco.pt")


class Harm:
    """Unpickled without care, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.open, (str(self.marker), os.O_CREAT)


class HarmfulText:
    """Unpickled without care, it builds a network whose description makes a file."""

    def __init__(self, marker: Path) -> None:
        self.layout = {
            "nc": 1,
            "activation": f"__import__('pathlib').Path({str(marker)!r}).touch()",
            "backbone": [[-1, 1, "Conv", [8, 3, 2]]],
            "head": [[[0], 1, "Detect", ["nc"]]],
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return tasks.DetectionModel, (self.layout,)


def save_in_checkpoint(content: object, path: Path) -> None:
    torch.save({"model": content}, path)


def save_old_pickle(content: object, path: Path) -> None:
    torch.save({"model": content}, path, _use_new_zipfile_serialization=False)


def save_bare_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps({"model": content}))


class TestHarmfulFiles:
    @pytest.mark.parametrize("kind", [Harm, HarmfulText])
    @pytest.mark.parametrize("save", [save_in_checkpoint, save_old_pickle, save_bare_pickle])
    def test_code_in_a_checkpoint_does_not_run(
        self, tmp_path: Path, kind: type[Harm] | type[HarmfulText], save: Callable[[object, Path], None]
    ) -> None:
        marker, path = tmp_path / "marker", tmp_path / "model.pt"
        save(kind(marker), path)
        with pytest.raises(WeightsError, match=str(path)):
            detector(path)
        assert not marker.exists()
        try:
            pickle.loads(path.read_bytes()) if save is save_bare_pickle else torch.load(path, weights_only=False)
        except Exception:  # the harm is done before the network is built
            pass
        assert marker.exists(), "the file is harmless, so this test proves nothing"

    def test_the_error_says_what_the_file_asked_for(self, tmp_path: Path) -> None:
        save_in_checkpoint(Harm(tmp_path / "marker"), tmp_path / "model.pt")
        with pytest.raises(WeightsError, match=r"was refused: it asks to load (posix|nt).open, "):
            detector(tmp_path / "model.pt")

    def test_compressed_checkpoint_is_refused(self, tmp_path: Path, coco_yolo: Path) -> None:
        path = tmp_path / "bomb.pt"
        with zipfile.ZipFile(coco_yolo) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
            for name in source.namelist():
                target.writestr(name, source.read(name))
        with pytest.raises(WeightsError, match="compressed"):
            detector(path)

    @pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
    def test_truncated_file(self, tmp_path: Path, coco_yolo: Path, keep: float) -> None:
        whole = coco_yolo.read_bytes()
        path = tmp_path / "cut.pt"
        path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
        with pytest.raises(WeightsError, match=f"{path} is not a checkpoint that ultralytics can read"):
            detector(path)

    @pytest.mark.parametrize("content", [{"model": None}, {}, {"model": {"a": torch.zeros(3)}}, torch.zeros(3), [1]])
    def test_files_of_something_else(self, tmp_path: Path, content: object) -> None:
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(WeightsError, match=r"other\.pt"):
            detector(tmp_path / "other.pt")

    def test_models_that_do_not_detect(self, tmp_path: Path, coco_yolo: Path) -> None:
        from ultralytics.utils import ROOT, YAML

        layout = YAML.load(ROOT / "cfg/models/v8/yolov8-pose.yaml") | {
            "scales": {"t": [0.33, 0.125, 256]},
            "scale": "t",
        }
        torch.save({"model": tasks.PoseModel(layout, verbose=False)}, tmp_path / "pose.pt")
        with pytest.raises(WeightsError, match="holds a PoseModel, but evsam needs a YOLO detection model"):
            detector(tmp_path / "pose.pt")

    def test_names_that_are_not_the_networks(self, tmp_path: Path, coco_yolo: Path) -> None:
        for names in ({0: "only"}, {}, {1: "a", 2: "b"}, None, 5):
            model = read_checkpoint(coco_yolo)
            model.names = names
            torch.save({"model": model}, tmp_path / "names.pt")
            with pytest.raises(WeightsError, match="does not work as a detection model"):
                detector(tmp_path / "names.pt")
