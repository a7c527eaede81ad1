"""What strangers get: the wheel, its names, its start-up, its help, and every row of every table."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil
from support.runs import environment, evsam
from support.unprivileged import unprivileged

from evsam_cli.reference import reference
from evsam_cli.segment import BOX_FORMATS as OFFERED_FORMATS
from pipelines.boxes import BOX_FORMATS
from pipelines.detectors import DETECTORS
from pipelines.detectors.text import TEXT_DETECTORS
from pipelines.doctor import examine
from pipelines.everything import STRATEGIES
from pipelines.labels import LABELS
from pipelines.outputs import OUTPUTS
from pipelines.registry import Registry, Row
from pipelines.sam import SAMS
from pipelines.training.sources import DATA_SETS
from weights import manifest, store

ROOT = Path(__file__).parents[2]
TABLES = [SAMS, DETECTORS, TEXT_DETECTORS, STRATEGIES, OUTPUTS, DATA_SETS, LABELS]
HEAVY = ("torch", "numpy", "cv2", "ultralytics", "PIL", "requests", "pycocotools")


def test_help_is_light() -> None:
    code = "import sys, evsam_cli.main; print([name for name in sys.argv[1].split() if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, " ".join(HEAVY)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    source = folder / "source"
    for name in files.stdout.splitlines() or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file()]:
        if (ROOT / name).is_file() and not name.startswith((".venv/", ".git/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_wheel_holds_three_top_level_names_and_the_weights(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"evsam_cli", "pipelines", "weights"}
    for name in ("evsam-starter", "objects-starter"):
        (file,) = manifest.files(name)
        assert f"weights/bundled/{file.bundled}" in names
        assert f"weights/bundled/{name}.md" in names


def test_wheel_works_from_an_empty_folder(wheel: Path, photographs: list[Path], tmp_path: Path) -> None:
    """A fresh environment that sees only the installed dependencies, not this checkout."""
    home, work = tmp_path / "venv", tmp_path / "work"
    venv.create(home, with_pip=False)
    site = next((home / "lib").glob("python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    (site / "dependencies.pth").write_text(next(path for path in sys.path if path.endswith("site-packages")))
    work.mkdir()
    (work / "weights").mkdir()  # a bare folder of that name must not win
    command = [
        str(home / "bin/python"),
        "-m",
        "evsam_cli",
        "segment",
        str(photographs[1]),
        "-o",
        "out",
        "--conf",
        "0.05",
    ]
    done = subprocess.run(
        command, cwd=work, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((work / "out/coco_results.json").read_text())


def test_a_stranger_named_weights_is_reported(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/__init__.py").write_text("")
    command = [sys.executable, "-c", "from evsam_cli.__main__ import main; main()", "--help"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 2 and "'weights'" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("table", "row"), [(table, row) for table in TABLES for row in table.values()], ids=lambda x: getattr(x, "name", "")
)
def test_every_row_loads(table: Registry, row: Row) -> None:
    assert table[row.name] is row
    assert callable(row.load())
    assert row.summary and not row.summary.endswith(".")
    if row.weights is not None:
        assert manifest.files(row.weights)


def test_every_weights_key_is_used() -> None:
    used = {row.weights for table in TABLES for row in table.values()}
    assert set(manifest.names()) <= used


def test_two_rows_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        Registry("thing", [Row("twice", "a:b", ""), Row("twice", "a:c", "")])


def test_bundled_weights_fit_the_package() -> None:
    paths = [store.fetch(name, offline=True) for name in ("evsam-starter", "objects-starter")]
    assert sum(path.stat().st_size for path in paths) <= 25_000_000


def test_help_names_the_box_formats() -> None:
    assert OFFERED_FORMATS == BOX_FORMATS
    out, _ = evsam("segment", "--help")
    said = re.search(r"(\w+), (\w+) or (\w+), in pixels or with (-\w+)\.", " ".join(out.split()))
    assert said
    *orders, normalised = said.groups()
    assert BOX_FORMATS == (*orders, *(order + normalised for order in orders))


def test_command_reference_is_what_help_says() -> None:
    """Made by `make docs`."""
    assert (ROOT / "docs/cli.md").read_text("utf-8") == reference(), "run `make docs`"


def test_doctor_reports_and_finds_faults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out, _ = evsam("doctor", "--json")
    findings = json.loads(out)
    texts = [finding["text"] for finding in findings]
    assert any(text.startswith("torch ") for text in texts) and any(text.startswith("cpu") for text in texts)
    assert sum("not here" in text and "`evsam weights pull NAME`" in text for text in texts) == 1
    assert not [finding for finding in findings if finding["verdict"] == "fault"]
    evsam("doctor")

    monkeypatch.setenv("EVSAM_HOME", str(tmp_path))
    damaged = tmp_path / "weights/yolov8n/yolov8n.pt"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"damaged")
    out, _ = evsam("doctor", "--json", code=2)
    assert [f["text"] for f in json.loads(out) if f["verdict"] == "fault" and "yolov8n" in f["text"]]


def test_doctor_doubts_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        Path(folder, "file").touch()
        Path(folder, "shut").mkdir(mode=0)
        for home in (f"{folder}/file", f"{folder}/file/x", f"{folder}/shut/x/y", f"{folder}/{'x' * 300}"):
            monkeypatch.setenv("EVSAM_HOME", home)
            with unprivileged():
                faults = [finding.text for finding in examine() if finding.verdict == "fault"]
            assert f"{home} cannot be written: set EVSAM_HOME to a folder that can" in faults


def test_doctor_prints_names_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    for name in ("[", "[red]x"):
        monkeypatch.setenv("EVSAM_HOME", f"{tmp_path}/{name}/x]")
        assert f"{tmp_path}/{name}/x], " in evsam("doctor")[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("segment", ROOT / "README.md", "-o", "run", "--weights", "{}.pt"),
        ("train", "finetune", "-o", "run", "--recipe", "{}"),
        ("train", "finetune", "-o", "run", "--recipe", "starter", "--data", "{}"),
    ],
)
def test_a_path_too_long_ends_in_one_line(
    arguments: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "n" * 300
    _, err = evsam(*(str(argument).format(name) for argument in arguments), code=2)
    assert err.startswith(f"evsam: cannot use {name}") and err.endswith("File name too long\n") and err.count("\n") == 1


def test_demo_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "evsam_cli.demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment(), check=True)
    assert "demo/overlays" in done.stdout
    with Pil.open(tmp_path / "demo/overlays/bus.jpg") as picture:
        assert np.asarray(picture).shape == (1080, 810, 3)
