"""Runs that are stopped: killed or interrupted anywhere, then resumed, they end with the same files."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.runs import QUICK, evsam, final_files, journal_of, photo_folder, run_apart, run_stopped, started

from pipelines.images.sources import ImageSource
from pipelines.outputs import outputs_of
from pipelines.records import Record
from pipelines.run.folder import RunFolder

SAVE = ("--save", ",".join(outputs_of("masks")))


def journal_lines(out: Path) -> int:
    journal = journal_of(out)
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def stop_and_resume(folder: Path, out: Path, stops: int, count: int, how: signal.Signals) -> None:
    """Run until a random share of the images is recorded, stop, and go on; `stops` times, and then to the end."""
    rng = random.Random(stops)
    for share in sorted(rng.sample(range(1, count), stops)):
        after, pause = max(share - journal_lines(out), 1), rng.random() * 0.05
        command = ("segment", folder, "-o", out, *QUICK, *SAVE, "--batch", "3", "--resume")
        done = run_stopped(*command, after=after, pause=pause, signals=[how])
        assert done.returncode == (130 if how is signal.SIGINT else -how), done.stderr
    run_whole(folder, out, "--resume")


def run_whole(folder: Path, out: Path, *options: str) -> None:
    evsam("segment", folder, "-o", out, *QUICK, *SAVE, "--batch", "3", *options, code=1)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("count", "stops", "how"),
    [
        (15, 3, signal.SIGKILL),
        (9, 1, signal.SIGINT),
        pytest.param(1000, 20, signal.SIGKILL, marks=[pytest.mark.slow, pytest.mark.timeout(7200)]),
    ],
)
def test_stopped_and_resumed_equals_uninterrupted(
    count: int, stops: int, how: signal.Signals, photographs: list[Path], tmp_path: Path
) -> None:
    folder = photo_folder(tmp_path / "photos", photographs, count)
    stop_and_resume(folder, tmp_path / "stopped", stops, count, how)
    run_whole(folder, tmp_path / "whole")
    whole = final_files(tmp_path / "whole")
    assert len(json.loads((tmp_path / "whole/coco_results.json").read_text())) > count // 5
    assert final_files(tmp_path / "stopped") == whole


def test_a_second_run_needs_a_decision_and_the_same_settings(photographs: list[Path], tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", photographs, 4)
    out = tmp_path / "out"
    evsam("segment", folder, "-o", out, *QUICK)
    before = final_files(out)
    _, err = evsam("segment", folder, "-o", out, *QUICK, code=2)
    assert "--resume" in err and "--overwrite" in err
    _, err = evsam("segment", folder, "-o", out, *QUICK, "--iou", "0.6", "--resume", code=2)
    assert "(prompts.iou: 0.5 then, 0.6 now)" in err
    _, err = evsam("segment", folder, "-o", out, *QUICK, "--resume")
    assert "4 already finished" in err and final_files(out) == before
    evsam("segment", folder, "-o", out, *QUICK, "--overwrite")
    assert final_files(out) == before


def test_overwriting_leaves_nothing_of_the_earlier_run(photographs: list[Path], tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", photographs, 4)
    out = tmp_path / "out"
    (out / "cutouts").mkdir(parents=True)
    (out / "cutouts" / "mine.png").touch()
    evsam("segment", folder, "-o", out, *QUICK, "--save", "overlay,jsonl", "--overwrite")
    evsam("segment", folder, "-o", out, *QUICK, "--save", "cutouts,overlay", "--overwrite")
    assert (out / "cutouts" / "mine.png").exists(), "no run had written it"
    for lost in sorted(folder.iterdir())[1:]:
        lost.unlink()
    evsam("segment", folder, "-o", out, *QUICK, "--save", "cutouts,overlay", "--overwrite")
    assert [path.name for path in (out / "overlays").iterdir()] == ["photo 0000.jpg"]
    assert (out / "records.jsonl").exists(), "another kind of file, which the second run was not to write"
    kept = sorted((out / "cutouts").rglob("*.png"))
    assert kept and {path.parent.name for path in kept} == {"photo 0000"}
    _, err = evsam("segment", kept[0], "-o", out, *QUICK, "--save", "cutouts", "--overwrite", code=2)
    assert "choose another output folder" in err and kept[0].exists()


def test_images_added_and_lost_between_runs(photographs: list[Path], tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", photographs, 4)
    out = tmp_path / "out"
    evsam("segment", folder, "-o", out, *QUICK, "--save", "jsonl")
    (folder / "photo 0001.jpg").unlink()
    (folder / "photo 0000.jpg").rename(folder / "photo 0009.jpg")
    evsam("segment", folder, "-o", out, *QUICK, "--save", "jsonl", "--resume")
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert sorted(r["name"] for r in records) == [f"photo 000{i}.jpg" for i in (0, 1, 2, 3, 9)]
    assert all(r["status"] in ("done", "empty") for r in records)
    assert len({r["image_id"] for r in records}) == 5


def test_failed_images_are_tried_again(photographs: list[Path], tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", photographs, 9)
    evsam("segment", folder, "-o", tmp_path / "out", *QUICK, code=1)
    (folder / "photo 0007.jpg").write_bytes((folder / "photo 0000.jpg").read_bytes())
    evsam("segment", folder, "-o", tmp_path / "out", *QUICK, "--resume")


def begun(path: Path, sources: Sequence[ImageSource] = ()) -> RunFolder:
    """A folder with a run that has done nothing yet."""
    folder = RunFolder(path)
    folder.begin(folder.plan({}, sources))
    return folder


def test_a_torn_line_is_forgotten(tmp_path: Path) -> None:
    sources = [ImageSource(name, name) for name in ("a.jpg", "b.jpg")]
    folder = begun(tmp_path, sources)
    with folder.journal() as journal:
        journal.add(Record("a.jpg", 1, 10, 10, "empty"))
        journal.add(Record("b.jpg", 2, 10, 10, "empty"))
    path = journal_of(tmp_path)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with folder.journal(read_only=True) as journal:
            assert journal.finished("a.jpg") == (b"\n" in whole[:cut]) and path.read_bytes() == whole[:cut]
        with folder.journal() as journal:
            names = [name for name in ("a.jpg", "b.jpg") if journal.finished(name)]
            assert len(names) == whole[:cut].count(b"\n")
            journal.add(Record("b.jpg", 2, 10, 10, "failed", "why"))
            journal.add(Record("a.jpg", 1, 10, 10, "empty"))
        with folder.journal() as journal:
            assert [r.status for r in journal.records({"b.jpg": 7, "a.jpg": 8})] == ["failed", "empty"]
            assert [r.image_id for r in journal.records({"a.jpg": 7, "b.jpg": 8})] == [7, 8]


def records_of(folder: Path, names: str) -> list[str]:
    with RunFolder(folder).journal() as journal:
        return [record.name for record in journal.records(dict.fromkeys(names, 1))]


def test_records_added_after_a_torn_line_are_read_back(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    with folder.journal() as journal:
        for name in "ab":
            journal.add(Record(name, 1, 5, 5, "empty"))
    path = journal_of(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with folder.journal() as journal:
        for name in "cd":
            journal.add(Record(name, 1, 5, 5, "empty"))
        assert [record.name for record in journal.records(dict.fromkeys("abcd", 1))] == ["a", "c", "d"]
    assert records_of(tmp_path, "abcd") == ["a", "c", "d"]


NESTED = b'{"status":"empty","instances":' + b"[" * 100_000 + b"\n"


@pytest.mark.parametrize(
    "damage",
    [
        b"\0" * 200 + b"\n",
        '{"name":"ü"'.encode()[:-2] + b"\n",
        b'{"name":"b","image_id":1,"wid{"name":"b","image_id":1}\n',
        b'{"name":["b"],"image_id":1,"width":5,"height":5,"status":"done","instances":[]}\n',
        b'{"name":"b","image_id":1,"width":5,"height":5,"status":"done","instances":[5]}\n',
        b'{"name":"b","image_id":1,"width":5,"height":5,"status":["done"],"instances":[]}\n',
        b'[1]\n"b"\n\n',
        Record("b", 1, 5, 5, "empty").to_line().replace("5", "NaN").encode() + b"\n",
        NESTED,
    ],
)
def test_lines_that_are_no_records_are_passed_over(damage: bytes, tmp_path: Path) -> None:
    folder = begun(tmp_path)
    lines = {name: Record(name, 1, 5, 5, "empty").to_line().encode() + b"\n" for name in "ac"}
    path = journal_of(tmp_path)
    for content in (lines["a"] + damage + lines["c"], lines["a"] + lines["c"] + damage):
        path.write_bytes(content)
        assert records_of(tmp_path, "abc") == ["a", "c"]
    path.write_bytes(lines["a"] + damage[:-1])
    with folder.journal() as journal:
        journal.add(Record("b", 1, 5, 5, "empty"))
    assert records_of(tmp_path, "abc") == ["a", "b"]


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_memory_does_not_grow_with_the_number_of_images(photographs: list[Path], tmp_path: Path) -> None:
    peaks = {}
    for count in (100, 2000):
        folder = photo_folder(tmp_path / f"photos{count}", photographs, count)
        assert run_apart("segment", folder, "-o", tmp_path / f"out{count}", *QUICK, *SAVE).returncode == 1
        peaks[count] = json.loads((tmp_path / f"out{count}/run.json").read_text())["this_run"]["peak_memory_mib"]
    print(peaks)
    assert peaks[2000] <= 1.05 * peaks[100]


def test_an_image_whose_file_has_changed_is_done_again(photographs: list[Path], tmp_path: Path) -> None:
    folder, out = photo_folder(tmp_path / "photos", photographs, 4), tmp_path / "out"
    command = ("segment", folder, "-o", out, "--box", "10,10,60,60", "--device", "cpu", "--save", "jsonl")
    evsam(*command)
    (folder / "photo 0000.jpg").write_bytes((folder / "photo 0003.jpg").read_bytes())
    _, err = evsam(*command, "--resume")
    assert "3 already finished" in err
    first, *_, last = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert first["name"] == "photo 0000.jpg" and first["instances"] == last["instances"]


def test_a_resumed_run_refuses_new_names_for_its_images(photographs: list[Path], tmp_path: Path) -> None:
    folders = [photo_folder(tmp_path / name, photographs, 1) for name in ("fa", "fb")]
    command = ("--box", "10,10,60,60", "--device", "cpu", "-o", tmp_path / "out", "--save", "jsonl")
    evsam("segment", folders[0], *command)
    _, err = evsam("segment", *folders, *command, "--resume", code=2)
    assert "photo 0000.jpg of the run in" in err and "would be called fa/photo 0000.jpg" in err
    _, err = evsam("segment", folders[0], *command, "--resume", "--overwrite", code=2)
    assert "choose one" in err


def test_two_runs_in_one_folder_are_refused(photographs: list[Path], tmp_path: Path) -> None:
    folder, out = photo_folder(tmp_path / "photos", photographs, 1), tmp_path / "out"
    command = ("segment", folder, "-o", out, "--box", "10,10,60,60", "--device", "cpu", "--save", "jsonl")
    held = RunFolder(out)
    with held.hold(held.plan({}, [])):
        _, err = evsam(*command, code=2)
        assert "another run is writing" in err
    evsam(*command)
    (out / ".evsam/settings.json").write_text("{")
    _, err = evsam(*command, "--resume", code=2)
    assert "settings.json is damaged" in err


def test_a_part_refuses_other_images(photographs: list[Path], tmp_path: Path) -> None:
    folder, out = photo_folder(tmp_path / "photos", photographs, 3), tmp_path / "part"
    command = ("segment", folder, "-o", out, "--box", "10,10,60,60", "--device", "cpu", "--shard", "1/2")
    evsam(*command)
    (folder / "photo 0000.jpg").rename(folder / "photo 0009.jpg")
    _, err = evsam(*command, "--resume", code=2)
    assert "one part of a run over 3 images, and now there are others" in err


@pytest.mark.skipif(os.name == "nt", reason="file names are text there")
def test_a_file_name_that_is_no_text(photographs: list[Path], tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", photographs, 1)
    (folder / "photo 0000.jpg").rename(folder / os.fsdecode(b"bad\xff.jpg"))
    out, _ = evsam("segment", folder, "-o", tmp_path / "out", "--box", "10,10,60,60", "--device", "cpu", "--json")
    assert json.loads(out)["status"] == "done"
    evsam("segment", folder, "-o", tmp_path / "out", "--box", "10,10,60,60", "--device", "cpu", "--resume")
    assert json.loads((tmp_path / "out/run.json").read_text())["images"]["done"] == 1


def test_output_that_is_no_longer_read_ends_quietly(photographs: list[Path], tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", photographs, 5)
    command = ("segment", folder, "-o", tmp_path / "out", "--box", "9,9,60,60", "--device", "cpu", "--json")
    with started(*command) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["status"] == "done"
        process.stdout.close()
        assert process.wait() == 1 and "cannot write" not in process.stderr.read()


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--box", "1,1,9,9", "--conf", "0.9"), "need no detector"),
        (("--min-score", "0.9"), "--boxes, which is missing"),
        (("--boxes", "f.json", "--min-score", "nan"), "'--min-score': 'nan' is no number"),
        (("--save", ""), "--save names nothing"),
    ],
)
def test_options_without_effect_are_refused(options: tuple[str, ...], fault: str, tmp_path: Path) -> None:
    _, err = evsam("segment", tmp_path, "-o", tmp_path / "out", *options, code=2)
    assert fault in err
