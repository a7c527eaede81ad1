"""`evsam benchmark`: costs as published, times taken in turn, and a report that names what it could not measure."""

from __future__ import annotations

import json
import os
import re
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pil
from support.runs import evsam
from support.seeded import picture

from pipelines import run_info
from pipelines.benchmark import benchmark, plots
from pipelines.benchmark.config import BenchmarkConfig
from pipelines.benchmark.cost import REFERENCE, Cost, cost_of
from pipelines.benchmark.measured import Measured
from pipelines.benchmark.subjects import Subject, random_weights, subjects_of
from pipelines.benchmark.table import number, text_rows
from pipelines.benchmark.timing import Times, in_turn
from pipelines.benchmark.works import open_scene
from pipelines.errors import UsageError
from pipelines.export import folder
from pipelines.run import Silent
from pipelines.sam import SAMS

CPU = torch.device("cpu")
QUICK = ("--device", "cpu", "--rounds", 1, "--boxes", 1, "--images", 0, "--no-memory")


def test_cost_of_the_reference() -> None:
    """The paper's 2973 G MACs count a little less of the attention than we do."""
    cost = cost_of(REFERENCE)
    assert cost.parameters / 1e6 == pytest.approx(641.1, abs=0.06)
    assert cost.macs / 1e9 == pytest.approx(2973, rel=0.005)
    assert cost.error_rate(cost) == 1
    assert Cost(cost.parameters // 2, cost.macs // 4).error_rate(cost) == pytest.approx(0.375)


def test_the_documented_options_are_there() -> None:
    text = (Path(__file__).parents[2] / "docs/benchmarks/models.md").read_text("utf-8")
    known = " ".join(evsam("benchmark", "--help")[0].split())
    options = re.findall(r"--[a-z][a-z-]*", text)
    assert len(options) > 10 and all(option in known for option in options)


def test_works_take_turns_and_the_warm_up_does_not_count() -> None:
    seen: list[str] = []
    works = {name: lambda name=name: seen.append(name) or len(seen) for name in "AB"}
    steps: list[None] = []
    times = in_turn(works, rounds=3, warm_up=2, device=CPU, done=lambda: steps.append(None))
    assert "".join(seen) == "AB" * 5 and len(steps) == 10
    assert [len(times[name].seconds) for name in "AB"] == [3, 3]
    assert times["B"].result == 10


def test_a_long_run_needs_no_warm_up() -> None:
    now = 0.0

    def work(seconds: float) -> None:
        nonlocal now
        now += seconds

    works = {"long": partial(work, 4.0), "short": partial(work, 1.0)}
    times = in_turn(works, rounds=2, device=CPU, clock=lambda: now)
    assert [times[name].seconds for name in works] == [(4.0, 4.0), (1.0, 1.0)] and now == 2 * 4 + 3 * 1
    now = 0.0
    in_turn(works, rounds=2, warm_up=3, device=CPU, clock=lambda: now)  # what compiles is slow at first
    assert now == 5 * 4 + 5 * 1


@pytest.mark.parametrize(("others", "warm_up"), [((), 1), (("torch-compiled",), 3)])
def test_what_compiles_is_warmed_up_longer(others: tuple[str, ...], warm_up: int) -> None:
    """On a GPU the first call of a shape compiles it, the second records it."""
    sams = {Subject("evsam-starter", backend, "fp32"): None for backend in ("torch", *others)}
    calls: list[str] = []
    bench = benchmark._Bench(BenchmarkConfig(rounds=2), None, sams, CPU, Silent())
    bench._times("everything", (16,), lambda sam, kind: lambda: calls.append("call"))
    assert len(calls) == len(sams) * (warm_up + 2)


def test_a_gpu_s_drivers_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '| NVIDIA-SMI 570.86.10   Driver Version: 570.86.10   CUDA Version: 12.8 |'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100")
    found = run_info.machine("cuda:0")
    assert (found["gpu"], found["driver"]) == ("NVIDIA H100", "570.86.10")
    assert (found["cuda"], found["cudnn"]) == (torch.version.cuda, torch.backends.cudnn.version())
    assert "gpu" not in run_info.machine("cpu")
    monkeypatch.setattr(run_info.metadata, "version", {"onnxruntime-gpu": "1.99.0"}.__getitem__)
    monkeypatch.setattr(run_info.metadata, "PackageNotFoundError", KeyError)
    assert run_info.versions()["onnxruntime-gpu"] == "1.99.0"


@given(st.lists(st.tuples(st.floats(1e-3, 10), st.floats(1e-3, 10)), min_size=1), st.floats(0.1, 10))
def test_ratios_are_taken_round_by_round(pairs: list[tuple[float, float]], factor: float) -> None:
    a, b = (Times(tuple(seconds), None) for seconds in zip(*pairs, strict=True))
    slower = Times(tuple(factor * seconds for seconds in a.seconds), None)
    assert a.faster_than(slower) == pytest.approx(factor)
    assert a.faster_than(a) == 1
    ratios = [y / x for x, y in pairs]
    assert min(ratios) <= a.faster_than(b) <= max(ratios)


def test_random_weights_are_the_same_each_time_and_keep_numbers_in_range() -> None:
    embeddings = []
    for _ in range(2):
        with random_weights(["evsam-starter"]) as paths:
            path = paths["evsam-starter"]
            sam = Subject("evsam-starter", "torch", "fp32", "cpu", path).build()
        assert not path.exists()
        sam.set_image(picture(60, 80))
        embeddings.append(sam.image_embedding)
    assert torch.equal(*embeddings)
    assert torch.isfinite(embeddings[0]).all() and 0.1 < embeddings[0].std() < 10


def test_an_exported_folder_is_measured_as_it_is(tmp_path: Path) -> None:
    made = folder.ExportManifest("efficientvit-sam-l0", 512, "", "openvino", "int8", {}, {})
    folder.keep(tmp_path, tmp_path, [], made)
    names = ("evsam-starter", str(tmp_path))
    config = BenchmarkConfig(names, backends=("torch", "onnx"), random_weights=True)
    *built, exported = subjects_of(config, {"evsam-starter": Path("drawn")})
    assert [subject.name for subject in built] == ["evsam-starter torch fp32", "evsam-starter onnx fp32"]
    assert {(subject.weights, subject.kind) for subject in built} == {(Path("drawn"), "random")}
    assert (exported.name, exported.weights) == ("efficientvit-sam-l0 openvino int8", tmp_path)


def test_the_accuracy_of_an_exported_folder_is_its_own(tmp_path: Path) -> None:
    folder.keep(tmp_path, tmp_path, [], folder.ExportManifest("evsam-starter", 512, "", "openvino", "int8", {}, {}))
    names = ("evsam-starter", str(tmp_path))
    for given_ones in ({names[0]: 52.3}, {names[1]: 51.9}, {names[0]: 52.3, names[1]: 51.9}):
        subjects = subjects_of(BenchmarkConfig(names, accuracy=given_ones), {})
        rows = [Measured(subject, Cost(1, 1), {1: Times((1.0,), None)}, {}, {}, {}, None, None) for subject in subjects]
        header, *cells = text_rows(rows)
        shown = [row[header.index("accuracy")] for row in cells]
        assert shown == [f"{given_ones[name]:g}" if name in given_ones else "-" for name in names]
        with patch.object(plots, "_save") as save:
            plots.plot_accuracy(rows, tmp_path)
        (axes,) = save.call_args.args[0].axes
        assert [line.get_ydata()[0] for line in axes.lines] == list(given_ones.values())


def test_boxes_are_fixed_and_inside_the_photo(tmp_path: Path) -> None:
    first, again = open_scene(None, 50), open_scene(None, 50)
    assert (first.boxes == again.boxes).all()
    assert (first.boxes >= 0).all() and (first.boxes <= [810, 1080] * 2).all()
    assert (first.boxes[:, 2:] > first.boxes[:, :2]).all()
    Pil.fromarray(picture(40, 30)).save(tmp_path / "own.png")
    assert open_scene(tmp_path / "own.png", 3).image.pixels.shape == (40, 30, 3)


def test_a_benchmark_and_its_files(tmp_path: Path) -> None:
    Pil.fromarray(picture(90, 120)).save(tmp_path / "photo.png")
    out = tmp_path / "out"
    precisions = ("--precision", "fp32,int8")  # torch has no int8
    sizes = ("--batch", "1,2", "--boxes", "2,1", "--grid", "1", "--images", 1, "--rounds", 1)
    place = ("-o", out, "--photo", tmp_path / "photo.png", "--device", "cpu")
    printed, err = evsam("benchmark", *place, *precisions, *sizes, "--accuracy", "evsam-starter=52.3")
    assert "Left out: evsam-starter torch int8: " in err and "encoder: 4 runs" in err
    assert "everything: 2 runs" in err and "folder: 2 runs" in err  # one of them does not count
    assert "evsam-starter" in printed and "52.3" in printed

    report = json.loads((out / "benchmark.json").read_text())
    (row,) = report["measured"]
    assert (row["sam"], row["backend"], row["precision"], row["weights"]) == (
        "evsam-starter",
        "torch",
        "fp32",
        "its own",
    )
    assert row["parameters"] == 9_128_848 and row["accuracy"] == 52.3 and 0 < row["efficient_error_rate"] < 0.01
    assert {kind: sorted(row[kind]) for kind in ("encoder", "boxes", "everything", "folder")} == {
        "encoder": ["1", "2"],
        "boxes": ["1", "2"],
        "everything": ["1"],
        "folder": ["1"],
    }
    encoder = row["encoder"]["2"]
    assert len(encoder["seconds"]) == 1 and encoder["images_per_second"] == pytest.approx(2 / encoder["median"])
    assert row["peak_memory_mib"]["process"] > 100 and row["peak_memory_mib"]["gpu"] is None
    assert report["machine"]["threads"] == torch.get_num_threads() and "torch" in report["versions"]
    assert report["settings"]["photo"] == "photo.png"

    assert "| evsam-starter | torch | fp32 | 9.1 | 4.1 |" in (out / "benchmark.md").read_text()
    for name in ("boxes", "accuracy"):
        with Pil.open(out / f"{name}.png") as plot:
            assert min(plot.size) > 300
        assert (out / f"{name}.svg").read_text().count("<svg") == 1
    assert len(list(out.iterdir())) == 6


def test_random_weights_are_named_and_masks_compared(tmp_path: Path) -> None:
    arguments = ("efficientvit-sam-l0", "-o", tmp_path, *QUICK, "--random-weights")
    printed, _ = evsam("benchmark", *arguments, "--precision", "fp32,bf16", "--json")
    report = json.loads(printed)
    assert any(note.startswith("Random weights (efficientvit-sam-l0)") for note in report["notes"])
    assert "| random |" in (tmp_path / "benchmark.md").read_text()
    assert {row["weights"] for row in report["measured"]} == {"random"}
    assert report["measured"][0]["encoder"]["1"]["times_as_fast_as_first"] == 1
    for row in report["measured"][1:]:  # none where the CPU has no bf16
        assert row["agreement"]["other"] == "efficientvit-sam-l0 torch fp32" and 0.8 < row["agreement"]["mean"] < 1
    assert len(report["measured"]) == 2 or "bf16" in report["notes"][-1]


def test_only_missing_weights_are_drawn() -> None:
    assert BenchmarkConfig(tuple(SAMS), random_weights=True).to_draw() == [*SAMS][1:]
    assert BenchmarkConfig(tuple(SAMS)).to_draw() == []


def test_one_by_one_in_seconds_of_the_processor(tmp_path: Path) -> None:
    sizes = ("--boxes", "1,2", "--images", 0, "--rounds", 1, "--device", "cpu", "--random-weights")
    how = ("--one-by-one", "--processor-time", "--backend", "torch,torch-graphs")  # graphs are a GPU's
    _, err = evsam("benchmark", "-o", tmp_path, *sizes, *how)
    report = json.loads((tmp_path / "benchmark.json").read_text())
    (row,) = report["measured"]
    assert row["weights"] == "its own" and row["peak_memory_mib"]["process"] > 100
    with pytest.raises(UsageError, match="say --device cpu"):
        BenchmarkConfig(device="cuda", processor_time=True)
    assert not any("Random weights" in note for note in report["notes"])
    assert "of the processor" in err and "process of its own" in err and "Left out: evsam-starter torch-graphs" in err
    header = (tmp_path / "benchmark.md").read_text().split("\n\n")[1].splitlines()[0]
    assert "| 1 boxes, ms | 2 boxes, ms | peak MiB |" in header


@pytest.mark.gpu
def test_on_a_gpu(tmp_path: Path) -> None:
    options = ("--device", "cuda", "--precision", "fp32,fp16", "--batch", "1,16", "--boxes", "1,50", "--rounds", 3)
    evsam("benchmark", "-o", tmp_path, *options, "--grid", 8)
    report = json.loads((tmp_path / "benchmark.json").read_text())
    for row in report["measured"]:
        assert row["encoder"]["16"]["images_per_second"] > row["encoder"]["1"]["images_per_second"] > 10
        assert 100 < row["peak_memory_mib"]["gpu"] < row["peak_memory_mib"]["process"] * 10
    assert report["measured"][1]["agreement"]["mean"] > 0.98


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sam-9000"], "evsam-starter"),
        ([str(Path(__file__).parent)], "no folder that `evsam export` made"),
        (["--backend", "abacus"], "torch"),
        (["--precision", "int3"], "fp32"),
        (["--precision", ""], "precision"),
        (["--device", "toaster"], "toaster"),
        (["-o", __file__], "cannot write to"),
        (["--batch", "one"], "--batch takes whole numbers"),
        (["--boxes", "0"], "at least 1"),
        (["--boxes", ""], "--images 0"),
        (["--accuracy", "evsam-starter"], "--accuracy efficientvit-sam-l0=45.7"),
        (["--accuracy", "evsam-starter=nan"], "--accuracy efficientvit-sam-l0=45.7"),
        (["--accuracy", "efficientvit-sam-l0=45.7"], "what is measured is evsam-starter"),
        (["--photo", __file__], "cannot be measured on"),
        (["efficientvit-sam-l0", "--offline"], "--random-weights"),
    ],
)
def test_wrong_requests_get_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    out, err = evsam("benchmark", "-o", tmp_path / "out", "--device", "cpu", *arguments, code=2)
    (line,) = [line for line in err.splitlines() if line.startswith("evsam: ")]
    assert message in line and not out
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01131, "0.0113"), (0.5, "0.500"), (1.0, "1.00"), (12.34, "12.3"), (762.0, "762")],
)
def test_numbers_have_three_digits_that_say_something(value: float, text: str) -> None:
    assert number(value) == text
