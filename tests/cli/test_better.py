"""What a run with bundled models says at its end, and that the command which it prints is right."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from PIL import Image as Pil
from support.runs import QUICK, evsam

from evsam_cli.better import repeated
from pipelines.detectors import DETECTORS
from pipelines.sam import SAMS
from weights import manifest, store

BOX = ("--box", "5,5,40,40")


@pytest.fixture
def photo(here: Path, photographs: list[Path]) -> Path:
    Pil.open(photographs[0]).resize((120, 160)).save(here / "a photo.jpg")
    return here / "a photo.jpg"


def told(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("Made by ")]


RUNS = [
    (
        ("segment", "a photo.jpg", "-o", "out", *QUICK),
        "Made by evsam-starter and objects, the small models that come with evsam. "
        "Better: efficientvit-sam-l2 (246 MB to fetch once) and yolov8m (52 MB to fetch once): ",
        "evsam segment 'a photo.jpg' -o out-2 --imgsz 96 --conf 0.06 --max-det 2 --device cpu"
        " --sam efficientvit-sam-l2 --detector yolov8m",
    ),
    (
        ("segment", "a photo.jpg", *BOX, "--output=out", "--sam=evsam-starter", "--save", "coco", "--offline"),
        "Made by evsam-starter, ",
        "evsam segment 'a photo.jpg' --box 5,5,40,40 -o out-2 --sam efficientvit-sam-l2 --save coco",
    ),
    (
        ("everything", "a photo.jpg", "-o", "out", "--imgsz", "96"),
        "Made by evsam-starter, the small model that comes with evsam. Better: ",
        "evsam everything 'a photo.jpg' -o out-2 --imgsz 96 --prompts objects --sam efficientvit-sam-l2",
    ),
    (
        ("detect", "-oout", "-d", "objects", "--overwrite", "--", "a photo.jpg"),
        "Made by objects, ",
        "evsam detect -o out-2 --detector yolov8m -- 'a photo.jpg'",
    ),
]


@pytest.mark.parametrize(("arguments", "made", "command"), RUNS, ids=[run[0][0] for run in RUNS])
def test_a_run_with_bundled_models_says_what_better_ones_cost(
    arguments: tuple[str, ...], made: str, command: str, photo: Path
) -> None:
    out, err = evsam(*arguments)
    (line,) = told(err)
    assert line.startswith(made) and line.endswith(f": {command}") and not told(out)
    assert err.splitlines()[-1] == line
    _, err = evsam(*shlex.split(command)[1:], code=2)  # what it lacks here is the weights alone
    assert "is not on this machine and evsam is offline" in err


def test_it_is_not_said_again_and_again(photo: Path) -> None:
    (photo.parent / "out-2").mkdir()
    assert " -o out-3 " in told(evsam("segment", photo, "-o", "out", *BOX)[1])[0]
    for quiet in ("--quiet", "--json"):
        assert not told(evsam("segment", photo, "-o", f"out{quiet}", *BOX, quiet)[1])
    weights = store.fetch("evsam-starter", offline=True)
    assert not told(evsam("segment", photo, "-o", "mine", *BOX, "--weights", weights)[1])


def test_thousands_of_names_are_not_repeated(photo: Path) -> None:
    names = [f"{number:0300}.jpg" for number in range(5)]
    for name in names:
        photo.with_name(name[-200:]).symlink_to(photo)
    sources = [str(photo.with_name(name[-200:])) for name in names]
    (line,) = told(evsam("segment", *sources, "-o", "out", *BOX)[1])
    assert line.endswith("the same command with --sam efficientvit-sam-l2 -o out-2")


def test_secrets_are_not_repeated() -> None:
    command = repeated(["segment", "https://ann:secret@box/a.jpg?secret", "-o", "out"], {"-o": "new"})
    assert command == "evsam segment https://box/a.jpg -o new"


@pytest.mark.parametrize("row", [*SAMS.values(), *DETECTORS.values()], ids=lambda row: row.name)
def test_bundled_models_alone_have_better_ones(row: object) -> None:
    table = SAMS if row in SAMS.values() else DETECTORS
    bundled = {file.name for file in manifest.rows() if file.bundled}
    assert (row.weights in bundled) == (row.better is not None)
    if row.better:
        assert table[row.better].weights == row.better not in bundled
