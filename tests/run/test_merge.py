"""`evsam merge`: stopped anywhere and repeated, and what it does not touch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.runs import environment, evsam, final_files, journal_of, noise_folder

from pipelines.outputs import OUTPUTS, Output

COMMAND = ("--box", "5,5,60,60", "--device", "cpu", "--save", "coco,ids,objects,panoptic,overlay,sa1b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`photos` of four images, one of which is broken, and its two halves, segmented: `part-1`, `part-2`."""
    folder = tmp_path_factory.mktemp("merge")
    noise_folder(folder / "photos", "012")
    (folder / "photos/3.png").write_bytes(b"broken")
    for part in (1, 2):
        evsam(
            "segment", folder / "photos", "-o", folder / f"part-{part}", *COMMAND, "--shard", f"{part}/2", code=part - 1
        )
    evsam("merge", folder / "part-1", folder / "part-2", "-o", folder / "whole", code=1)
    return folder


@pytest.fixture
def parts(folder: Path, tmp_path: Path) -> list[Path]:
    """Copies of the parts, to be damaged."""
    return [Path(shutil.copytree(folder / f"part-{part}", tmp_path / f"part-{part}")) for part in (1, 2)]


KILL = """
import os, sys
from pathlib import Path
import pipelines.run.merge, pipelines.outputs
parts, out = [Path(part) for part in sys.argv[1:3]], Path(sys.argv[3])
for row in pipelines.outputs.OUTPUTS.values():
    row.load()
left = 0
def dying(call):
    def counted(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return call(*arguments, **options)
    return counted
for name in ("fsync", "rename", "replace", "unlink", "rmdir"):
    setattr(os, name, dying(getattr(os, name)))
for step in range(1000):
    if not os.fork():
        left = step
        pipelines.run.merge.merge(parts, out / str(step))
        os._exit(0)
    if os.waitstatus_to_exitcode(os.wait()[1]) == 0:
        break
"""
"""Merges the parts into OUT/0, OUT/1, ..., the n-th killed as it is to change the disk for the n-th time."""


def test_killed_anywhere_and_repeated(folder: Path, tmp_path: Path) -> None:
    parts, out = [folder / "part-1", folder / "part-2"], tmp_path / "out"
    subprocess.run([sys.executable, "-c", KILL, *parts, out], check=True, env=environment())
    whole = final_files(folder / "whole")
    killed = sorted(out.iterdir(), key=lambda path: int(path.name))
    assert len(killed) > 40 and final_files(killed.pop()) == whole
    steps = {}
    for each in killed:
        journal = journal_of(each)
        lines = journal.read_text().splitlines() if journal.exists() else []
        finished = [record["name"] for record in map(json.loads, lines) if record["status"] == "done"]
        for name in finished:
            mine = {path for path in whole if f"/{name}" in path and not path.startswith("sa1b")}
            assert mine <= set(final_files(each)), f"{name} counts as finished"
        steps.setdefault((len(lines), (each / "run.json").exists()), each)
    assert len(steps) == 6, "from none of the records to all, and to run.json"
    for each in steps.values():
        evsam("merge", *parts, "-o", each, code=1)
        assert final_files(each) == whole
        _, err = evsam("merge", *parts, "-o", each, code=2)
        assert "already holds a run: add --overwrite to replace it" in err


def test_a_killed_merge_can_be_resumed_as_a_run(folder: Path, tmp_path: Path) -> None:
    out = shutil.copytree(folder / "whole", tmp_path / "whole")
    journal = journal_of(out)
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:1]))
    (out / ".evsam/merging").touch()
    for left in ("overlays/2.jpg", "panoptic/2.json", "coco_results.json", "run.json"):
        (out / left).unlink()
    with pytest.raises(AssertionError, match="holds no finished run"):
        evsam("merge", out, folder / "part-2", "-o", tmp_path / "more")
    evsam("segment", folder / "photos", "-o", out, *COMMAND, "--resume", code=1)
    assert final_files(out) == final_files(folder / "whole")
    _, err = evsam("merge", folder / "part-1", folder / "part-2", "-o", out, code=2)
    assert "already holds a run" in err, "it is a run of its own now"


def test_what_another_run_left_is_safe_from_a_merge(folder: Path, tmp_path: Path) -> None:
    evsam("segment", folder / "photos/0.png", "-o", tmp_path / "other", *COMMAND, "--quiet")
    (tmp_path / "other/.evsam/merging").touch()
    before = final_files(tmp_path / "other")
    merge = ("merge", folder / "part-1", folder / "part-2", "-o", tmp_path / "other")
    settings = tmp_path / "other/.evsam/settings.json"
    settings.write_text(settings.read_text().replace("60.0", "61.0"))
    _, err = evsam(*merge, code=2)
    assert "add --overwrite" in err and final_files(tmp_path / "other") == before
    evsam(*merge, "--overwrite", code=1)
    assert final_files(tmp_path / "other") == final_files(folder / "whole")


def test_a_failed_image_has_no_files_in_the_whole(folder: Path, parts: list[Path], tmp_path: Path) -> None:
    shutil.copy(parts[0] / "ids/0.png", parts[1] / "ids/3.png")
    (parts[1] / "mine").mkdir()
    (parts[1] / "mine/notes.txt").write_text("no output of a run")
    evsam("merge", *parts, "-o", tmp_path / "out", code=1)
    assert final_files(tmp_path / "out") == final_files(folder / "whole")


@pytest.mark.parametrize("place", ["ids/0.png", "objects/0/000_object.png", "objects/0", "overlays"])
def test_links_in_a_part_are_not_followed(place: str, parts: list[Path], tmp_path: Path) -> None:
    (parts[0] / place).rename(tmp_path / "elsewhere")
    (parts[0] / place).symlink_to(tmp_path / "elsewhere")
    _, err = evsam("merge", *parts, "-o", tmp_path / "out", code=2)
    assert f"{parts[0] / place} is a link" in err and len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["ids", ".evsam"])
def test_links_in_the_output_are_not_followed(place: str, parts: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").mkdir()
    (tmp_path / "out" / place).symlink_to(tmp_path / "precious")
    _, err = evsam("merge", *parts, "-o", tmp_path / "out", code=2)
    assert f"{tmp_path / 'out' / place} is a link" in err and not list((tmp_path / "precious").iterdir())


def test_a_file_in_the_output_that_is_a_link_is_replaced(parts: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out/ids").mkdir(parents=True)
    (tmp_path / "precious").write_text("mine")
    for place in ("ids/0.png", "coco_results.json", "run.json"):
        (tmp_path / "out" / place).symlink_to(tmp_path / "precious")
    evsam("merge", *parts, "-o", tmp_path / "out", code=1)
    assert (tmp_path / "precious").read_text() == "mine" and not (tmp_path / "out/ids/0.png").is_symlink()


NESTED = "[" * 100_000
NO_OPTIONS = '{"save": [], "output_options": 1}'
DAMAGED = {
    "run.json": ("{", "[]", '{"report": 5}', '{"report": {}, "categories": {"x": "y"}}', NESTED),
    ".evsam/settings.json": (
        "{",
        "[]",
        '{"save": 5}',
        '{"save": ["what"]}',
        '{"save": [], "output_options": 1}',
        NESTED,
    ),
    ".evsam/sources.json": ("{", "5", '["a"]', '[{"name": ["a"], "location": "a"}]', '[{"name": "a"}]', NESTED),
    ".evsam/machines.json": ("{", "5", "[5]", NESTED),
}


@pytest.mark.parametrize(("name", "content"), [(name, each) for name, bad in DAMAGED.items() for each in bad])
def test_state_of_another_form_is_named(name: str, content: str, parts: list[Path], tmp_path: Path) -> None:
    (parts[0] / name).write_text(content)
    _, err = evsam("merge", *parts, "-o", tmp_path / "out", code=2)
    assert str(parts[0] / name) in err and len(err.splitlines()) == 1 and len(err) < 1000


def test_what_is_missing_or_leads_elsewhere_is_named(parts: list[Path], tmp_path: Path) -> None:
    (parts[0] / "overlays/1.jpg").unlink()
    _, err = evsam("merge", *parts, "-o", tmp_path / "out", code=2)
    assert "overlays/1.jpg is missing" in err
    os.mkfifo(parts[0] / "overlays/1.jpg")
    _, err = evsam("merge", *parts, "-o", tmp_path / "out", code=2)
    assert "overlays/1.jpg is no file" in err
    journal_of(parts[0]).unlink()
    _, err = evsam("merge", *parts, "-o", tmp_path / "out", code=2)
    assert "journal.jsonl cannot be read" in err and len(err.splitlines()) == 1
    sources = parts[0] / ".evsam/sources.json"
    sources.write_text(sources.read_text().replace('"0.png"', '"../../0.png"'))
    _, err = evsam("merge", *parts, "-o", tmp_path / "out", code=2)
    assert "would leave the folder" in err


def test_parts_of_machines_that_differ_are_noted(folder: Path, parts: list[Path], tmp_path: Path) -> None:
    assert "not all of this run" not in str(json.loads((folder / "whole/run.json").read_text())["notes"])
    machines = parts[0] / ".evsam/machines.json"
    (machine,) = json.loads(machines.read_text())
    machines.write_text(json.dumps([{**machine, "threads": 96}]))
    _, err = evsam("merge", *parts, "-o", tmp_path / "out", code=1)
    assert f"note: not all of this run was made alike (threads: 96, {machine['threads']})" in err
    assert len(json.loads((tmp_path / "out/.evsam/machines.json").read_text())) == 2


def test_a_run_that_got_more_images_on_the_way(folder: Path, tmp_path: Path) -> None:
    photos, out = shutil.copytree(folder / "photos", tmp_path / "photos"), tmp_path / "out"
    for i in range(4):
        (photos / f"{i}.png").rename(photos / f"photo {i}.png")
    (photos / "photo 1.png").rename(tmp_path / "late.png")
    evsam("segment", photos, "-o", out, *COMMAND, code=1)
    (tmp_path / "late.png").rename(photos / "photo 1.png")
    evsam("segment", photos, "-o", out, *COMMAND, "--resume", code=1)
    evsam("merge", out, "-o", tmp_path / "whole", code=1)
    assert final_files(tmp_path / "whole") == final_files(out)


def test_every_output_says_which_files_are_an_images(folder: Path) -> None:
    """Else a merge would lose them."""
    for name, row in OUTPUTS.items():
        output = row.load()
        if output.write is Output.write and not output.of_image:
            continue  # all its files are the run's
        folders = {pattern.split("/")[0] for pattern in output.of_image}
        assert folders == {file for file in row.files if "." not in file}, name
