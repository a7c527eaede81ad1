"""`evsam models`: every row, counts that are those of the networks, and the page that is made of them."""

from __future__ import annotations

import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from support.runs import evsam, run_apart
from support.tiny_text import write_vocabulary
from torch.utils.flop_counter import FlopCounterMode

from evsam_cli.model_tables import with_tables
from pipelines.benchmark.cost import Cost, cost_of
from pipelines.models import list_models, model
from pipelines.sam import SAMS
from weights.facts import PARAMETERS

ROOT = Path(__file__).parents[2]
MODELS = list(list_models())
SWIN_B = {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 12}
SWIN_L = SWIN_B | {"embed_dim": 192, "num_heads": [6, 12, 24, 48]}
L14 = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
HUB: dict[str, tuple[str, dict[str, Any]]] = {
    "grounding-dino-tiny": ("GroundingDino", {}),
    "grounding-dino-base": ("GroundingDino", {"backbone": SWIN_B}),
    "mm-grounding-dino-tiny": ("MMGroundingDino", {}),
    "mm-grounding-dino-large": ("MMGroundingDino", {"backbone": SWIN_L, "num_feature_levels": 5}),
    "owlv2-base": ("Owlv2", {"vision_config": {"image_size": 960, "patch_size": 16}}),
    "owlv2-large": (
        "Owlv2",
        {
            "vision_config": L14 | {"image_size": 1008, "patch_size": 14},
            "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
            "projection_dim": 768,
        },
    ),
}
"""Names in transformers, and what of their configurations, which come with the weights, is not its default."""


def counted(name: str) -> Cost:
    facts = model(name).facts
    assert facts is not None
    return Cost(facts.parameters, facts.macs)


def size(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", SAMS)
def test_a_sam_is_of_the_size_that_is_shown(name: str) -> None:
    assert counted(name) == cost_of(name)


@pytest.mark.parametrize("name", [each.name for each in MODELS if each.kind == "detector" and each.facts])
def test_a_yolo_is_of_the_size_that_is_shown(name: str) -> None:
    from ultralytics.nn.tasks import DetectionModel

    kind, classes = ("yolov8n", 1) if name == "objects" else (name, 80)
    network = DetectionModel(f"{kind}.yaml", nc=classes, verbose=False).to("meta").train()  # boxes are not read out
    facts = model(name).facts
    assert facts is not None
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, *facts.input, device="meta"))
    assert counted(name) == Cost(size(network), counter.get_total_flops() // 2)


@pytest.mark.parametrize("name", HUB)
def test_a_text_detector_of_the_hub_is_of_the_size_that_is_shown(name: str) -> None:
    import transformers

    family, own = HUB[name]
    architecture = getattr(transformers, f"{family}ForObjectDetection")
    own = dict(own)
    if backbone := own.pop("backbone", None):
        levels = ["stage1", "stage2", "stage3", "stage4"][-own.get("num_feature_levels", 4) + 1 :]
        own = own | {"backbone_config": transformers.SwinConfig(**backbone, out_features=levels)}
    with torch.device("meta"):
        network = architecture(architecture.config_class(**own))
    assert counted(name).parameters == size(network)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grounding-dino-swint", "grounding-dino-swinb"])
def test_an_official_text_detector_is_of_the_size_that_is_shown(name: str, tmp_path: Path) -> None:
    from pipelines.detectors.text import official
    from pipelines.detectors.text.bert import BertConfig
    from pipelines.detectors.text.captions import Vocabulary

    settings = vars(importlib.import_module(f"groundingdino.config.{model(name).row.options['config']}"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = official.build(settings, BertConfig(), Vocabulary(write_vocabulary(tmp_path)))
    assert counted(name).parameters == size(network)


def test_published_counts_are_ours_to_the_last_digit_or_it_is_said_why() -> None:
    compared = [(each.ours(entry), entry) for each in MODELS for entry in each.published if each.ours(entry)]
    assert len(compared) > 40 and any(entry.figure == PARAMETERS for _, entry in compared)
    for ours, entry in compared:
        assert (ours == entry.value) == (entry.why is None), entry


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_has_every_row(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    out, err = evsam("models")
    lines = out.splitlines()
    assert not err and max(map(len, lines)) <= width
    names = [line.split()[0] for line in lines if line[:1].strip()]
    assert [name for name in names if name in {each.name for each in MODELS}] == [each.name for each in MODELS]
    words = " ".join(out.split())
    (line,) = [line for line in lines if line.startswith("edge-sam ")]
    assert line.split()[:6] == ["edge-sam", "9.6", "20.0", "1024", "75.9", "[2]"] and "38.8 MB" in line
    assert ("EdgeSAM: " in line) == (width == 120) and "not for commercial use" in words
    assert "bundled" in lines[1] and "[2] survey, arXiv 2410.04960" in words


def test_a_card_says_all_and_why_counts_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out, _ = evsam("models", "sam-vit-h")
    words = " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    assert "641.1 M (641,090,608)" in words and "MACs, G: 2973" in words and "ours 2981" in words
    assert "evsam weights pull sam-vit-h" in words and words.endswith("--sam sam-vit-h")
    assert "no commercial use" in evsam("models", "edge-sam")[0]
    assert "bundled" in evsam("models", "objects")[0]


def test_the_table_is_light() -> None:
    code = "import sys; from evsam_cli.__main__ import run_command\ntry: run_command()\nfinally: print(*sys.modules)"
    shown = run_apart("models", python=("-c", code)).stdout.split()
    assert "sam-vit-h" in shown and "evsam_cli.models" in shown
    assert not {"torch", "numpy", "cv2", "ultralytics"} & {*shown}


def test_json_has_every_figure() -> None:
    every = json.loads(evsam("models", "--json")[0])
    assert [each["name"] for each in every] == [each.name for each in MODELS]
    one = json.loads(evsam("models", "slimsam-77", "--json")[0])
    assert one in every and one["parameters"] == 9_723_528 and one["weights"] == "missing"
    assert {"figure": "COCO mIoU, true boxes", "value": "74.4", "why": None}.items() <= one["published"][2].items()


@pytest.mark.parametrize(
    ("typed", "words"),
    [("nano_sam", "did you mean 'nanosam'"), ("yolo11n", "yolov8n"), ("rap-sam", "docs/models.md")],
)
def test_a_mistyped_name(typed: str, words: str) -> None:
    _, said = evsam("models", typed, code=2)
    assert said.startswith("evsam: ") and said.count("\n") == 1 and words in said


def test_the_page_of_models_is_made_of_the_rows() -> None:
    """Made by `make docs`."""
    page = (ROOT / "docs/models.md").read_text("utf-8")
    assert page == with_tables(page), "run `make docs`"
    assert all(f"| `{each.name}` |" in page for each in MODELS)
    for system in ("SqueezeSAM", "Lite-SAM", "ESAM", "RWKV-SAM", "SAM-Lightening", "FastSAM3D", "RAP-SAM", "SAM 3"):
        assert f"| {system}" in page
