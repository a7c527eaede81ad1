"""What is measured: a SAM on a back end in a precision, and the weights it is built with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pipelines.benchmark.config import BenchmarkConfig
from pipelines.errors import SetupError
from pipelines.export import folder
from pipelines.sam import SAMS, build_sam

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.sam.predictor import SamPredictor

DRAWN = "random"
"""The kind of weights that mean nothing."""


@dataclass(frozen=True)
class Subject:
    """One thing to measure. weights: see `pipelines.sam.build_sam`; kind: what they are, in words.

    accuracy: what the user goes by.
    """

    sam: str
    backend: str
    precision: str
    device: str = "cpu"
    weights: Path | None = None
    kind: str = "its own"
    offline: bool | None = None
    accuracy: float | None = None

    @property
    def name(self) -> str:
        return f"{self.sam} {self.backend} {self.precision}"

    def build(self) -> SamPredictor:
        """The predictor. Raises EvsamError as `build_sam` does."""
        return build_sam(
            self.sam, self.weights, self.device, self.precision, backend=self.backend, offline=self.offline
        )


def subjects_of(config: BenchmarkConfig, drawn: Mapping[str, Path]) -> list[Subject]:
    """Every SAM on every back end in every precision, and exported folders as they are; drawn: weights, by SAM.

    Raises UsageError for a folder that is no export.
    """
    found = []
    for name in config.sams:
        accuracy = config.accuracy.get(name)
        if name in SAMS:
            kind = DRAWN if name in drawn else "its own"
            found += [
                Subject(name, backend, precision, config.device, drawn.get(name), kind, config.offline, accuracy)
                for backend, precision in product(config.backends, config.precisions)
            ]
        else:
            made, path = folder.read(Path(name)), Path(name)
            found.append(
                Subject(made.model, made.format, made.precision, config.device, path, "exported", accuracy=accuracy)
            )
    return found


@contextmanager
def random_weights(sams: Sequence[str]) -> Iterator[dict[str, Path]]:
    """A checkpoint of random numbers, the same each time, for each SAM by name; deleted on leaving."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with TemporaryDirectory(prefix="evsam-benchmark-") as scratch:
        paths = {name: Path(scratch) / f"{name}.safetensors" for name in sams}
        for name, path in paths.items():
            try:
                save_file(_random_state(name), path)
            except SafetensorError as error:
                raise SetupError(f"cannot write to {scratch}: {error}") from error
        yield paths


def _random_state(name: str) -> dict[str, Tensor]:
    """Draws that keep the size of what flows through the network, so that no arithmetic is on zeros or infinities."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sam = SAMS[name].load()(**SAMS[name].options).build()
        for parameter in sam.parameters():
            if parameter.ndim >= 2:
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    state: dict[str, Tensor] = sam.state_dict()
    return state
