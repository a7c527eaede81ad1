"""Training that is stopped anywhere goes on to the same weights, bit for bit."""

from __future__ import annotations

import dataclasses
import json
import pickle
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from support.training_photos import LOOP, short, tiny_sam

from pipelines.errors import UsageError
from pipelines.sam.layers import fold_norms
from pipelines.sam.predictor import SamPredictor
from pipelines.sam.torch_network import TorchNetwork
from pipelines.training import distill, finetune
from pipelines.training.config import DataConfig, DistillConfig, OptimiserConfig
from pipelines.training.engine import CHECKPOINT, learning_rate


@pytest.mark.parametrize("interrupted_at", [1, 3])
def test_a_resumed_run_gives_the_same_bits(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, interrupted_at: int
) -> None:
    def train(folder: Path, **settings: bool) -> None:
        torch.manual_seed(0)
        config = short(photos)
        loop = dataclasses.replace(config.loop, checkpoint_every=1, log_every=1)
        finetune.run(dataclasses.replace(config, loop=loop), folder, model=tiny_sam(), **settings)

    train(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.training.engine.learning_rate", stop_at(interrupted_at))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "parts")
    with pytest.raises(UsageError, match="--resume"):
        train(tmp_path / "parts")
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4}\n{"ste')  # lines behind the checkpoint, the last one cut off by the kill
    train(tmp_path / "parts", resume=True)
    whole, parts = (torch.load(tmp_path / name / CHECKPOINT, weights_only=True) for name in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 4
    assert_equal(whole, parts)
    lines = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]


class Stopped(Exception):
    """What a signal does in these tests."""


@pytest.fixture
def stopping() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    assert [signal.signal(number, handler) for number, handler in before.items()] == [stop, stop]


@pytest.mark.usefixtures("stopping")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_the_step_is_saved(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    config = short(photos)
    config = dataclasses.replace(config, loop=dataclasses.replace(config.loop, checkpoint_every=1000))
    torch.manual_seed(0)
    finetune.run(config, tmp_path / "whole", model=tiny_sam())
    torch.manual_seed(0)
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.training.engine.learning_rate", at(2, lambda: signal.raise_signal(number)))
        with pytest.raises(Stopped):
            finetune.run(config, tmp_path / "parts", model=tiny_sam())
    assert torch.load(tmp_path / "parts" / CHECKPOINT, weights_only=True)["step"] == 3
    finetune.run(config, tmp_path / "parts", model=tiny_sam(), resume=True)
    whole, parts = (torch.load(tmp_path / name / CHECKPOINT, weights_only=True) for name in ("whole", "parts"))
    assert_equal(whole, parts)


@pytest.mark.usefixtures("stopping")
def test_a_second_signal_stops_at_once(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("pipelines.training.engine.learning_rate", at(1, twice))
    with pytest.raises(Stopped):
        finetune.run(short(photos), tmp_path, model=tiny_sam())
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_resumed_distillation_gives_the_same_bits(tmp_path: Path, photos: Path) -> None:
    torch.manual_seed(0)
    teacher = SamPredictor("tiny-teacher", TorchNetwork(fold_norms(tiny_sam()), torch.device("cpu")))
    data = (DataConfig(str(photos)), DataConfig(str(photos / "images"), weight=2))

    def train(folder: Path, **settings: object) -> None:
        torch.manual_seed(1)
        config = DistillConfig("tiny", "tiny-teacher", steps=3, photos=2, data=data, loop=LOOP)
        distill.run(config, folder, student=tiny_sam(), teacher=teacher, **settings)

    train(tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.training.engine.learning_rate", stop_at(2))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "parts")
    train(tmp_path / "parts", resume=True)
    whole, parts = (torch.load(tmp_path / name / CHECKPOINT, weights_only=True) for name in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 3
    assert_equal(whole, parts)


def stop_at(interrupted_at: int) -> Callable[[int, int, OptimiserConfig], float]:
    def stop() -> None:
        raise KeyboardInterrupt

    return at(interrupted_at, stop)


def at(when: int, what: Callable[[], None]) -> Callable[[int, int, OptimiserConfig], float]:
    """The learning rate, which does `what` at step `when`."""

    def rate(step: int, steps: int, config: OptimiserConfig) -> float:
        if step == when:
            what()
        return learning_rate(step, steps, config)

    return rate


def assert_equal(a: object, b: object, where: str = "checkpoint") -> None:
    """Nested containers are equal, tensors bit for bit."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where  # type: ignore[arg-type]
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where  # type: ignore[attr-defined]
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")  # type: ignore[index]
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where  # type: ignore[arg-type]
        for i, pair in enumerate(zip(a, b, strict=True)):  # type: ignore[call-overload]
            assert_equal(*pair, f"{where}.{i}")
    else:
        assert a == b, where


def test_resuming_under_other_settings_is_refused(tmp_path: Path, photos: Path) -> None:
    finetune.run(short(photos), tmp_path, model=tiny_sam())
    with pytest.raises(UsageError, match="other settings"):
        finetune.run(short(photos, seed=5), tmp_path, model=tiny_sam(), resume=True)
    kept = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    for content in (
        b"half a file",
        pickle.dumps({"step": 1}),
        {"step": 1},
        [1],
        {**kept, "best": 5},
        {**kept, "adam": {}},
    ):
        if isinstance(content, bytes):
            (tmp_path / CHECKPOINT).write_bytes(content)
        else:
            torch.save(content, tmp_path / CHECKPOINT)
        with pytest.raises(UsageError, match="not a checkpoint") as caught:
            finetune.run(short(photos), tmp_path, model=tiny_sam(), resume=True)
        assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)
