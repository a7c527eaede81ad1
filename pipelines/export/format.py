"""What every format of exported networks shares: making the files, checking them, and finding them again."""

from __future__ import annotations

import hashlib
import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from pipelines.device import PRECISIONS, check_device, check_precision
from pipelines.errors import SetupError, UsageError
from pipelines.export import folder as folders
from pipelines.export import gate
from pipelines.export.graphs import DECODER, ENCODER, graph_form, write_graphs
from pipelines.export.network import Graph, GraphNetwork
from pipelines.files import check_folder, write_json
from pipelines.onnx_files import contained
from pipelines.printable import brief
from pipelines.sam import SAMS
from pipelines.sam.frame import preprocess
from pipelines.sam.model import Sam
from pipelines.sam.network import EXPORTED, SamSource
from pipelines.sam.predictor import SamPredictor
from pipelines.sam.torch_network import TorchBackend
from pipelines.types import UInt8
from weights import store

PACKAGES = ("evsam", "torch", "onnx", "onnxscript")
"""What writes the ONNX files that every format starts from."""
STAND_INS = {"onnxruntime": ("onnxruntime-gpu",)}
"""Packages that bring the same module."""
_UNSTEADY = "`evsam export --stability-score-thresh` lets masks without an outline differ"
REMEDIES = {"bf16": f"; {_UNSTEADY}", "int8": f"; give it more photos like those it will see; {_UNSTEADY}"}
"""What to do when the gate stays shut."""


class Format(ABC):
    """A kind of exported file, and a back end that runs it. One file and one row of `pipelines.sam.BACKENDS` add one.

    precisions: those it can run in. suffixes: of its files, the one to open first; others may be missing. packages:
    whose versions its files depend on. int8_outputs: whether a convolution is in int8 only when its output is, too.
    """

    name: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    suffixes: ClassVar[tuple[str, ...]]
    packages: ClassVar[tuple[str, ...]]
    most_prompts: ClassVar[int | None] = None
    int8_outputs: ClassVar[bool] = False

    @abstractmethod
    def convert(self, graph: Path, target: Path, *, precision: str, device: torch.device) -> None:
        """Turn an ONNX file into this format's, at `target` with its first suffix."""

    @abstractmethod
    def open(self, path: Path, *, precision: str, device: torch.device) -> Graph:
        """Load a file of this format."""

    def beside(self, path: Path) -> list[str]:
        """The other files that a file of this format is opened with. Raises WeightsError for one that is not here."""
        return []

    def check(self, device: torch.device) -> None:
        """Raises UsageError or SetupError when this back end cannot run on `device`, before anything is done."""
        if device.type != "cpu":
            raise UsageError(f"the {self.name} back end runs on the CPU here, not on {device}: use --device cpu")

    def machine(self, device: torch.device) -> dict[str, str]:
        """What its files are bound to, beside the versions that made them."""
        return {}

    def build(self, source: SamSource, *, device: str, precision: str) -> GraphNetwork:
        """The network of an exported folder, or of one made now in the cache, if the gate lets it pass."""
        where = self.place(device, precision)
        folder = source.weights
        if not (isinstance(folder, Path) and folder.is_dir()):
            if precision == "int8":
                raise self._unfitted(source)
            made = self._made(source, precision, where)
            key = hashlib.sha256(json.dumps(asdict(made), sort_keys=True).encode()).hexdigest()
            folder = store.home() / "exports" / f"{source.row.name}-{self.name}-{precision}-{key[:16]}"
            with store.alone(folder.parent):
                if not folders.is_export(folder):
                    self.export(source, folder, device=device, precision=precision)
        return self.load(folder, source.row.name, device=where, precision=precision)

    def export(
        self,
        source: SamSource,
        folder: Path,
        *,
        device: str = "cpu",
        precision: str = "fp32",
        photos: Iterable[UInt8] | None = None,
        calibration: Iterable[UInt8] | None = None,
        stability: float = 0.0,
    ) -> gate.Parity:
        """Write the network's files into `folder` if the gate lets them pass, and the gate's report in any case.

        photos: what the gate looks at, by default the two photographs of ultralytics. calibration: others, which int8
        takes its ranges from. stability: the least stability score of a mask that counts as the worst. Raises
        SetupError when the gate stays shut.
        """
        where = self.place(device, precision)
        if precision == "int8" and calibration is None:
            raise self._unfitted(source)
        check_folder(folder)
        made = self._made(source, precision, where)
        fit = _without_weights(source).conventions.fit
        pixels = [preprocess(photo, made.input_size, fit) for photo in calibration or ()]
        reference = SamPredictor(source.row.name, TorchBackend().build(source, device=device, precision="fp32"))
        folders.clear(folder, self.files)
        model = graph_form(source.load(), self.graph_precision(precision))
        with folders.making(folder, self.files) as scratch:
            int8_share = self._write(model, scratch, precision, where, pixels)
            candidate = SamPredictor(source.row.name, self._open(scratch, model, precision, where))
            shown = gate.photographs() if photos is None else photos
            parity = gate.compare(reference, candidate, shown, stability)
            parity = replace(parity, int8_share=int8_share)
            write_json(folder / folders.REPORT, {**parity.record(), **asdict(made)})
            del candidate
            if not parity.faults:
                folders.keep(folder, scratch, self.files, made)
        if parity.faults:
            remedy = REMEDIES.get(precision, "")
            raise SetupError(
                f"{source.row.name} as {self.name} in {precision} fails the parity gate and is not kept: "
                f"{'; '.join(parity.faults)}; the report is {folder / folders.REPORT}{remedy}"
            )
        return parity

    def load(self, folder: Path, name: str, *, device: torch.device, precision: str) -> GraphNetwork:
        """The network in `folder`. Raises EvsamError, before anything is loaded, when it is not the one asked for."""
        made = folders.read(folder)
        found = f"{made.model} as {made.format} in {made.precision}"
        if found != (wanted := f"{name} as {self.name} in {precision}"):
            raise UsageError(f"{folder} holds {found}, but {wanted} is asked for")
        if made.machine != (here := self.machine(device)):
            bound = ", ".join(f"{key} {value} (here {here.get(key)})" for key, value in made.machine.items())
            raise SetupError(
                f"{folder} is bound to {bound}: export it again here, or drop --weights, and it is made when first used"
            )
        model = _without_weights(SamSource(SAMS[name]))
        if made.input_size != model.input_size:
            raise UsageError(
                f"{folder / EXPORTED} says that {name} sees {brief(made.input_size)} pixels, not {model.input_size}"
            )
        parts = [folder / name for name in self._to_open if contained(folder, name)]
        folders.verify(folder, [*self._to_open, *(name for path in parts for name in self.beside(path))])
        return self._open(folder, model, precision, device)

    @property
    def files(self) -> list[str]:
        return [f"{part}{suffix}" for part in (ENCODER, DECODER) for suffix in self.suffixes]

    @property
    def _to_open(self) -> list[str]:
        return [f"{part}{self.suffixes[0]}" for part in (ENCODER, DECODER)]

    def place(self, device: str, precision: str) -> torch.device:
        """See `pipelines.sam.network.Backend`."""
        where = check_device(device)
        if precision not in self.precisions:
            choices = ", ".join(self.precisions)
            raise UsageError(f"the {self.name} back end has no precision {precision!r}; choose one of: {choices}")
        if precision in PRECISIONS:
            check_precision(precision, where)
        self.check(where)
        return where

    def _unfitted(self, source: SamSource) -> UsageError:
        return UsageError(
            f"int8 is fitted to photos like those it will see: make it with `evsam export {source.row.name} -o FOLDER "
            f"--format {self.name} --precision int8 --photos PHOTOS`, then use it with --weights FOLDER"
        )

    def _made(self, source: SamSource, precision: str, device: torch.device) -> folders.ExportManifest:
        versions = {package: _version(package) for package in (*PACKAGES, *self.packages)}
        return folders.ExportManifest(
            source.row.name,
            _without_weights(source).input_size,
            source.sha256(),
            self.name,
            precision,
            versions,
            self.machine(device),
        )

    def graph_precision(self, precision: str) -> str:
        """The precision that the ONNX file is written in; the rest is up to what runs it."""
        return "fp16" if precision == "fp16" else "fp32"

    def _write(
        self, model: Sam, folder: Path, precision: str, device: torch.device, calibration: Sequence[Tensor]
    ) -> float:
        """Write the files; returns the share of the encoder's multiplications by weights that are in int8."""
        int8_share = 0.0
        with tempfile.TemporaryDirectory(dir=folder) as name:
            graphs = Path(name)
            write_graphs(model, graphs)
            if precision == "int8":
                from pipelines.export import int8

                int8_share = int8.quantize(
                    model.image_encoder, graphs / f"{ENCODER}.onnx", calibration, outputs=self.int8_outputs
                )
            for part in (ENCODER, DECODER):
                target = folder / f"{part}{self.suffixes[0]}"
                self.convert(graphs / f"{part}.onnx", target, precision=precision, device=device)
        return int8_share

    def _open(self, folder: Path, model: Sam, precision: str, device: torch.device) -> GraphNetwork:
        """model: for what it says of itself."""
        encoder, decoder = (self.open(folder / name, precision=precision, device=device) for name in self._to_open)
        return GraphNetwork(encoder, decoder, model.input_size, device, self.most_prompts, model.conventions)


def _without_weights(source: SamSource) -> Sam:
    with torch.device("meta"):
        return source.build()


def _version(package: str) -> str:
    for name in (package, *STAND_INS.get(package, ())):
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    raise SetupError(f"exporting needs the package {package!r}: install it with `pip install 'evsam[export]'`")
