"""Segment-anything models by name, and the predictor that runs them.

sam = build_sam("efficientvit-sam-l0")
sam.set_image(rgb)
masks, predicted_iou, low_res_masks = sam.predict(boxes=[[60, 40, 420, 300]])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines.registry import Registry, Row
from pipelines.sam.rules import AS_THEY_COME, MaskRules

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.sam.predictor import SamPredictor

T = TypeVar("T")


@dataclass(frozen=True)
class SamRow(Row):
    """A SAM, and what is done with it where the user says nothing.

    strategy: a name of `pipelines.everything.STRATEGIES`. everything: values of the strategies' configurations, for
    those that have such a field; what is missing here is the strategy's own. rules: what `evsam segment`, `text` and
    `everything` do with its masks; evaluations do nothing that they are not told.
    """

    strategy: str = "grid"
    everything: Mapping[str, float | str] = field(default_factory=lambda: MappingProxyType({}))
    rules: MaskRules = AS_THEY_COME

    def own_values(self) -> dict[str, Any]:
        """All of them, by the names that configurations have for them."""
        return {**self.everything, **self.rules.given()}

    def own(self, chosen: object) -> dict[str, str]:
        """Those values of a configuration that are the model's own, for `run.json`."""
        return {
            name: f"{value}, the own value of {self.name}"
            for name, value in self.own_values().items()
            if getattr(chosen, name, None) == value
        }


def _efficientvit(name: str, config: str, input_size: int, summary: str, **own: Any) -> SamRow:
    return SamRow(
        name,
        "pipelines.sam.encoders.efficientvit:Architecture",
        summary,
        weights=name,
        options={"config": config, "input_size": input_size},
        **own,
    )


def _sam(name: str, family: str, config: str, summary: str, weights: str | None = None, **own: Any) -> SamRow:
    """Of a family whose architecture needs the name of a config alone. weights: None for those of the same name."""
    target = f"pipelines.sam.encoders.{family}:Architecture"
    return SamRow(name, target, summary, weights=weights or name, options={"config": config}, **own)


_OBJECT_AWARE: dict[str, Any] = {
    "strategy": "objects",
    "everything": MappingProxyType({"model": "object-aware", "conf": 0.4, "iou": 0.9, "max_det": 300}),
}
"""How MobileSAMv2's own script asks its detector."""

SAMS = Registry(
    "SAM",
    [
        _efficientvit(
            "evsam-starter",
            "b1",
            512,
            "bundled: works at once and offline; rough masks",
            better="efficientvit-sam-l2",
            strategy="objects",
            everything=MappingProxyType({"pred_iou_thresh": 0.3, "stability_score_thresh": 0.5}),
            rules=MaskRules(box_margin=0.05, min_mask_region_area=100),  # docs/benchmarks/masks.md
        ),
        _efficientvit("efficientvit-sam-l0", "l0", 512, "the first choice: fast, good masks"),
        _efficientvit("efficientvit-sam-l1", "l1", 512, "between l0 and l2"),
        _efficientvit("efficientvit-sam-l2", "l2", 512, "the best masks of those with a small input"),
        _efficientvit("efficientvit-sam-xl0", "xl0", 1024, "fine masks by a larger input"),
        _efficientvit("efficientvit-sam-xl1", "xl1", 1024, "the best masks of all, as published"),
        _sam("mobile-sam", "tinyvit", "5m", "MobileSAM: small, known by many tools"),
        _sam(
            "mobilesamv2",
            "mobilesamv2",
            "l2",
            "efficientvit-sam-l2 tuned to everything in a photo",
            **_OBJECT_AWARE,
        ),
        _sam(
            "mobilesamv2-tinyvit",
            "mobilesamv2",
            "tinyvit",
            "mobile-sam tuned to everything in a photo",
            **_OBJECT_AWARE,
        ),
        _sam("tinysam", "tinyvit", "5m", "MobileSAM's network, better trained"),
        _sam("repvit-sam", "repvit", "m2.3", "RepViT-SAM: convolutions alone, for phones"),
        _sam("edge-sam", "repvit", "edge", "EdgeSAM: the least arithmetic at 1024 pixels; not for commercial use"),
        _sam("edge-sam-3x", "repvit", "edge", "EdgeSAM, trained three times as long; not for commercial use"),
        _sam("nanosam", "nanosam", "sam", "NanoSAM: a ResNet-18, for Jetson"),
        _sam("nanosam4", "nanosam", "nvidia", "NanoSAM by its authors' rules: four masks, no padding", "nanosam"),
        _sam("efficient-sam-ti", "efficientsam", "ti", "EfficientSAM: a plain ViT; squeezes images, takes no masks"),
        _sam("efficient-sam-s", "efficientsam", "s", "EfficientSAM, twice as wide"),
        _sam("light-hq-sam", "hq", "light", "HQ-SAM, small: MobileSAM with finer masks"),
        _sam("slimsam-50", "vit", "slim-50", "SlimSAM: half of ViT-B's channels"),
        _sam("slimsam-77", "vit", "slim-77", "SlimSAM: a quarter of ViT-B's channels"),
        _sam("sam-vit-b", "vit", "b", "the original SAM, the smallest"),
        _sam("sam-vit-l", "vit", "l", "the original SAM, the middle one"),
        _sam("sam-vit-h", "vit", "h", "the original SAM, the largest: slow, to compare with"),
        _sam("sam-hq-vit-b", "hq", "b", "HQ-SAM: sam-vit-b with finer masks"),
        _sam("sam-hq-vit-l", "hq", "l", "HQ-SAM: sam-vit-l with finer masks"),
        _sam("sam-hq-vit-h", "hq", "h", "HQ-SAM: sam-vit-h with finer masks"),
    ],
)

BACKENDS = Registry(
    "back end",
    [
        Row("torch", "pipelines.sam.torch_network:TorchBackend", "on any device"),
        Row(
            "torch-compiled",
            "pipelines.sam.compiled:CompiledBackend",
            "torch.compile, on a GPU CUDA graphs, slow to start",
        ),
        Row("torch-graphs", "pipelines.sam.graphs:GraphsBackend", "on an NVIDIA GPU, CUDA graphs of what torch does"),
        Row("onnx", "pipelines.export.onnx:Onnx", "ONNX Runtime", extra="export"),
        Row("openvino", "pipelines.export.openvino:OpenVino", "fast on x86 CPUs", extra="export"),
        Row("tensorrt", "pipelines.export.tensorrt:TensorRt", "fast on NVIDIA GPUs", extra="tensorrt"),
    ],
)
"""What runs a SAM's network."""


def list_sams() -> list[str]:
    """Names that `build_sam` takes, in the order of the table."""
    return list(SAMS)


def build_sam(
    name: str,
    weights: str | Path | Mapping[str, Tensor] | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    *,
    backend: str = "torch",
    max_memory: int | None = None,
    rules: MaskRules = AS_THEY_COME,
    offline: bool | None = None,
) -> SamPredictor:
    """A predictor ready for images.

    name: one of `list_sams()`. weights: None for the model's own (bundled, cached or downloaded; `offline=True` forbids
    the download), a checkpoint file, a state dict in the official layout, or a folder that `evsam export` made.
    device: "cpu", "cuda", "cuda:1", "mps". precision: "fp32", "bf16" or "fp16", as device and back end have it.
    backend: one of `BACKENDS`; what is not exported for it yet is exported into the cache and checked first.
    max_memory: bytes of the device that the process should not exceed; None: what is free. rules: what its
    `segment_...` methods do with masks; `predict` gives them as they are.

    Raises UsageError for an unknown name, device, precision or backend, WeightsError when the weights are missing or
    are not this model's, SetupError when a back end is not installed or its masks are not torch's.
    """
    from pipelines.sam.network import SamSource
    from pipelines.sam.predictor import SamPredictor

    source = SamSource(SAMS[name], Path(weights) if isinstance(weights, str) else weights, offline)
    network = BACKENDS[backend].load()().build(source, device=device, precision=precision)
    return SamPredictor(name, network, max_memory=max_memory, rules=rules)


@dataclass(frozen=True)
class SamConfig:
    """A SAM and what runs it, as `build_sam` takes them. weights: a checkpoint file or an exported folder."""

    name: str = "evsam-starter"
    weights: Path | None = None
    device: str = "cpu"
    precision: str = "fp32"
    backend: str = "torch"
    max_memory: int | None = None
    rules: MaskRules = AS_THEY_COME

    def build(self, *, offline: bool | None = None) -> SamPredictor:
        """The predictor. Raises as `build_sam` does."""
        return build_sam(
            self.name,
            self.weights,
            self.device,
            self.precision,
            backend=self.backend,
            max_memory=self.max_memory,
            rules=self.rules,
            offline=offline,
        )

    def build_beside(
        self, build: Callable[[], T], *, here: bool, offline: bool | None = None
    ) -> tuple[SamPredictor, T]:
        """The predictor, and what else `build` gives. What is on this machine is built first, so that what is wrong
        with it is told before the other is fetched. here: whether all that `build` needs is.
        """
        if self.is_here() and not here:
            return self.build(offline=offline), build()
        other = build()
        return self.build(offline=offline), other

    def is_here(self) -> bool:
        """Whether nothing has to be fetched for it."""
        from weights.store import locate

        return self.weights is not None or locate(SAMS[self.name].weights or self.name) is not None

    def check(self) -> None:
        """Raise what `build` would of names, device, precision, packages and `weights`; fetches nothing."""
        from pipelines.sam.network import SamSource

        row = SAMS[self.name]
        BACKENDS[self.backend].load()().place(self.device, self.precision)
        if self.weights is not None or row.weights is None:
            SamSource(row, self.weights).file()

    def sha256(self, *, offline: bool | None = None) -> str:
        """The fingerprint of the weights, fetched if need be. Raises WeightsError when they are missing."""
        from pipelines.sam.network import SamSource

        return SamSource(SAMS[self.name], self.weights, offline).sha256()

    def settings(self, *, offline: bool | None = None) -> dict[str, Any]:
        """What decides the masks, for `run.json`, as `pipelines.run.loop.run` takes it."""
        return {
            "sam": self.name,
            "sam_sha256": partial(self.sha256, offline=offline),
            **self._terms(),
            "precision": self.precision,
            "backend": self.backend,
        }

    def _terms(self) -> dict[str, str]:
        """What its published weights may not be used for."""
        from weights import manifest

        published = SAMS[self.name].weights
        file = manifest.files(published)[0] if published else None
        return {"sam_licence": f"{file.licence}: {file.terms}"} if file and file.terms else {}
