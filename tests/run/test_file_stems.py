"""What the files of an image are called: by its stem, unless that would not be its alone."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pil
from support.output_cases import make_instances
from support.runs import evsam, final_files

from pipelines.errors import UsageError
from pipelines.names import distinct, file_stems, folded, safe
from pipelines.outputs import OUTPUTS, Destination
from pipelines.outputs.png import VOC_PALETTE
from pipelines.training.sources import open_source
from pipelines.types import Category, Image

PARTS = st.sampled_from(
    ["a", "A", "a.jpg", "a.png", "a.jpg.png", "..", "...jpg", "b.", "b .jpg", "é.jpg", "é.png", "0.JPG"]
)
NAMES = st.lists(st.lists(PARTS, min_size=1, max_size=3).map("/".join), max_size=8)


def unique(names: list[str]) -> list[str]:
    return distinct([safe(name) for name in names])


@given(NAMES, NAMES)
def test_files_of_images_never_meet_and_never_leave_the_folder(names: list[str], more: list[str]) -> None:
    names = unique(names)
    stems = file_stems(names, {})
    later = unique([*names, *more])
    try:
        grown = file_stems(later, {name: stem for name, stem in stems.items() if name in later})
    except UsageError:
        grown = {}
    assert all(grown[name] == stems[name] for name in names if name in grown)
    for found in (stems, grown):
        keys = [folded(stem) for stem in found.values()]
        assert len(set(keys)) == len(keys)
        files = {key + end for key in keys for end in (".png", ".jpg", ".json")}
        folders = {str(parent) for key in keys for parent in PurePosixPath(key).parents}
        assert not files & folders
        assert all(part.strip(". ") for stem in found.values() for part in stem.split("/"))
        assert all(stem in (name, re.sub(r"\.[^./]*$", "", name)) for name, stem in found.items())


def test_a_new_name_that_a_settled_one_s_files_have_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^the files of a would be called as those of a.jpg are"):
        file_stems(["a.jpg", "a"], {"a.jpg": "a"})


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["bus.jpg", "zidane.jpg"], ["bus", "zidane"]),
        (["bus.jpg", "BUS.png", "a/bus.jpg"], ["bus.jpg", "BUS.png", "a/bus"]),
        (["é.jpg", "e\N{COMBINING ACUTE ACCENT}.png"], ["é.jpg", "e\N{COMBINING ACUTE ACCENT}.png"]),
        (["a.jpg", "a.png", "a.jpg.tif"], ["a.jpg", "a.png", "a.jpg.tif"]),
        (["a.jpg", "a.png.d/b.jpg"], ["a.jpg", "a.png.d/b"]),
        (["img.0001.jpg", "img.0002.jpg"], ["img.0001", "img.0002"]),
    ],
)
def test_a_stem_is_taken_where_it_is_one_images_alone(names: list[str], stems: list[str]) -> None:
    assert list(file_stems(names, {}).values()) == stems


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number, name in enumerate(("bus.jpg", "sub/bus.jpg", "sub/bus.png", "two.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (64, 96, 3), np.uint8)
        Pil.fromarray(pixels).save(folder / name)
    return folder


KINDS = ("--box", "10,10,50,50", "--save", "coco,ids,objects,overlay,panoptic,sa1b")


def test_runs_resumed_merged_and_grown_call_files_alike(folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    evsam("segment", folder, "-o", whole, *KINDS)
    files = {path for path in final_files(whole) if path.startswith("overlays/")}
    assert files == {f"overlays/{stem}.jpg" for stem in ("bus", "sub/bus.jpg", "sub/bus.png", "two")}
    assert '"file_name":"bus.jpg"' in (whole / "coco_results.json").read_text()
    assert '"file_name":"bus.png"' in (whole / "panoptic.json").read_text()

    for i in (1, 2):
        evsam("segment", folder, "-o", tmp_path / f"part{i}", *KINDS, "--shard", f"{i}/2")
    evsam("merge", tmp_path / "part1", tmp_path / "part2", "-o", tmp_path / "all")
    assert final_files(tmp_path / "all") == final_files(whole)

    Pil.new("RGB", (30, 20), "red").save(folder / "two.jpg")
    evsam("segment", folder, "-o", whole, *KINDS, "--resume")
    grown = {path for path in final_files(whole) if path.startswith("overlays/")}
    assert grown == {*files, "overlays/two.jpg.jpg"}


def test_ids_show_in_a_viewer_and_are_read_back(folder: Path, tmp_path: Path) -> None:
    evsam("segment", folder / "two.png", "-o", tmp_path / "out", *KINDS, "--box", "40,20,90,60")
    with Pil.open(tmp_path / "out/ids/two.png") as picture:
        assert picture.mode == "P" and np.asarray(picture).max() == 2
        shown = np.asarray(picture.convert("RGB"))
        assert {tuple(colour) for colour in shown.reshape(-1, 3).tolist()} <= {(0, 0, 0), (128, 0, 0), (0, 128, 0)}


@pytest.mark.parametrize("count", [3, 255, 300])
def test_training_reads_ids_of_either_kind(count: int, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Pil.new("RGB", (320, 4), "red").save(tmp_path / "images" / "a.jpg")
    masks = np.zeros((count, 4, 320), bool)
    masks[np.arange(count), 1, np.arange(count)] = True
    destination = Destination(tmp_path, tmp_path, {1: Category(1, "object")}, {"a.jpg": "a"})
    OUTPUTS["ids"].load()(destination).write(Image("a.jpg", np.zeros((4, 320, 3), np.uint8)), make_instances(masks))
    (tmp_path / "ids").rename(tmp_path / "masks")
    with Pil.open(tmp_path / "masks/a.png") as picture:
        assert (picture.mode == "P") == (count <= 255)
    found = open_source(tmp_path)[0].regions
    assert len(found) == count and found[-1].decode(4, 320)[1, count - 1]


def test_the_palette_has_a_colour_for_each_id() -> None:
    assert len(np.unique(VOC_PALETTE, axis=0)) == 256
    assert VOC_PALETTE[[0, 1, 2, 3, 4, 15, 21, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [192, 128, 128],
        [128, 64, 128],
        [224, 224, 192],
    ]
