"""Images that are done again: what a run leaves of them is what a run from the start would leave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image as Pil
from support.runs import evsam, final_files, journal_of, noise_folder

from pipelines.outputs import outputs_of

SAVE = ("--device", "cpu", "--save", ",".join(outputs_of("masks")))
FIVE = [[5, 5, 60, 60], [70, 10, 60, 60], [10, 70, 50, 60], [80, 80, 60, 60], [30, 30, 90, 90]]


def every_path(folder: Path) -> set[str]:
    """Folders too, so that an empty one counts as a difference."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if ".evsam" not in path.parts}


def test_an_image_that_fails_now_has_no_files(tmp_path: Path) -> None:
    folder = noise_folder(tmp_path / "photos", ("00", "01"), 160)
    command = ("segment", folder, *SAVE, "--box", "5,5,60,60", "-o")
    evsam(*command, tmp_path / "out")
    assert any("01.png" in path for path in every_path(tmp_path / "out"))
    (folder / "01.png").write_bytes(b"no picture any more")
    evsam(*command, tmp_path / "out", "--resume", code=1)
    evsam(*command, tmp_path / "fresh", code=1)
    assert final_files(tmp_path / "out") == final_files(tmp_path / "fresh")
    assert every_path(tmp_path / "out") == every_path(tmp_path / "fresh")


@pytest.mark.parametrize("left", [2, 0])
def test_an_image_with_fewer_objects_now_has_theirs_alone(left: int, tmp_path: Path) -> None:
    folder = noise_folder(tmp_path / "photos", ("00", "01"), 160)

    def segment(out: str, boxes: list[list[int]], *options: str) -> None:
        """What another detector or another photograph changes: how many boxes an image has."""
        rows = [{"image_id": i, "file_name": f"{i:02d}.png", "category_id": 1, "bbox": FIVE[0]} for i in (0,)]
        rows += [{"image_id": 1, "file_name": "01.png", "category_id": 1, "bbox": box} for box in boxes]
        (tmp_path / "boxes.json").write_text(json.dumps([{**row, "score": 1} for row in rows]))
        command = ("segment", folder, *SAVE, "--boxes", tmp_path / "boxes.json", "-o", tmp_path / out)
        evsam(*command, *options)

    segment("out", FIVE)
    settings = tmp_path / "out/.evsam/settings.json"
    changed = json.loads(settings.read_text())
    segment("fresh", FIVE[:left])
    fresh = json.loads((tmp_path / "fresh/.evsam/settings.json").read_text())
    settings.write_text(json.dumps({**changed, "boxes_sha256": fresh["boxes_sha256"]}))
    (folder / "01.png").touch()
    segment("out", FIVE[:left], "--resume")
    assert final_files(tmp_path / "out") == final_files(tmp_path / "fresh")
    assert every_path(tmp_path / "out") == every_path(tmp_path / "fresh")


def test_an_image_that_vanished_before_it_was_finished_has_no_files(tmp_path: Path) -> None:
    folder, out = noise_folder(tmp_path / "photos", ("00", "01"), 160), tmp_path / "out"
    command = ("segment", folder, *SAVE, "--box", "5,5,60,60", "-o", out)
    evsam(*command)
    journal = journal_of(out)
    journal.write_text(journal.read_text().splitlines(keepends=True)[0])  # as after a kill among the second's files
    (folder / "01.png").unlink()
    evsam(*command, "--resume", code=1)
    assert not [path for path in every_path(out) if "01.png" in path]


def test_a_run_that_finds_edges_leaves_none_of_a_failed_image(tmp_path: Path) -> None:
    folder = noise_folder(tmp_path / "photos", ("00",), 160)
    options = ("--prompts", "edges", "--points-per-side", "2", "--save", "edges,jsonl", "--device", "cpu")
    evsam("everything", folder, "-o", tmp_path / "out", *options)
    assert (tmp_path / "out/edges/00.png").exists()
    (folder / "00.png").write_bytes(b"no picture any more")
    evsam("everything", folder, "-o", tmp_path / "out", *options, "--resume", code=1)
    assert not (tmp_path / "out/edges").exists()


def test_an_output_that_refuses_an_image_takes_the_others_with_it(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Pil.new("RGB", (66_000, 2), (9, 9, 9)).save(tmp_path / "photos/wide.png")
    command = ("segment", tmp_path / "photos", "-o", tmp_path / "out", *SAVE, "--box", "0,0,60,2")
    _, err = evsam(*command, code=1)
    assert "do not fit a .jpg" in err
    assert not [path for path in every_path(tmp_path / "out") if "wide" in path]


@pytest.mark.parametrize("content", ["", "{", "[]", "5", "[" * 100_000])
def test_a_damaged_entry_of_panoptic_is_named(content: str, tmp_path: Path) -> None:
    folder = noise_folder(tmp_path / "photos", ("00",), 160)
    command = ("segment", folder, "-o", tmp_path / "out", "--box", "5,5,60,60", "--device", "cpu", "--save", "panoptic")
    evsam(*command)
    (tmp_path / "out/panoptic/00.json").write_text(content)
    _, err = evsam(*command, "--resume", "--quiet", code=2)
    assert "panoptic/00.json is not an image's entry" in err and len(err.splitlines()) == 1
