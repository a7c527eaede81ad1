"""What runs write: every row of OUTPUTS, and that each file holds exactly what was found."""

import json
import weakref
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools.coco import COCO
from support.output_cases import (
    CATEGORIES,
    FOUND,
    HEIGHT,
    NOTHING,
    WIDTH,
    build,
    files,
    make_instances,
    make_record,
    photo,
    read,
    shapes,
)

from pipelines import rle
from pipelines.errors import ImageError, UsageError
from pipelines.outputs import OUTPUTS, Destination, Output, check_needs, remove_outputs
from pipelines.records import Record
from pipelines.types import Bool, Category, Detections, Instances, Masks

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools's
SAFE = {1: "person", 7: "Straßenbahn_路面電車", 90: "___x____"}
RESULTS = {
    "coco": "coco_results.json",
    "boxes": "coco_boxes.json",
    "dataset": "coco_dataset.json",
    "jsonl": "records.jsonl",
    "panoptic": "panoptic.json",
}
OF_A_RUN = {
    **{name: {path} for name, path in RESULTS.items()},
    "yolo": {"yolo/data.yaml", "yolo/train.txt"},
    "cvat": {"cvat.xml"},
    "label-studio": {"label_studio/tasks.json", "label_studio/config.xml"},
    "voc": {"voc/labelmap.txt", "voc/ImageSets/Main/trainval.txt", "voc/ImageSets/Segmentation/trainval.txt"},
    "csv": {"instances.csv"},
    "parquet": {"instances.parquet"},
}
"""What is written even of a run of no images."""
RUN = [(photo("a/b.jpg"), FOUND), (photo("a/b.png"), NOTHING), (photo("写真 ü/b.jpg"), FOUND)]


RECORDS = [
    make_record(*RUN[0], 30),
    Record("bad ü.jpg", 4, 0, 0, "failed", "it is empty"),
    make_record(*RUN[1], 20),
    make_record(*RUN[2], 10),
]


@pytest.fixture
def destination(tmp_path: Path) -> Destination:
    (tmp_path / "scratch").mkdir()
    return Destination(tmp_path / "out", tmp_path / "scratch", CATEGORIES)


def write_all(output: Output, records: Callable[[], Iterable[Record]] = lambda: iter(RECORDS)) -> None:
    for image, instances in RUN:
        output.write(image, instances)
    output.finish(records)


def object_files(kind: str) -> set[str]:
    return {
        f"{kind}/{image.name}/{i:03d}_{SAFE[category]}.png"
        for image, instances in RUN
        for i, category in enumerate(instances.detections.category_ids.tolist())
    }


EXPECTED = {
    **OF_A_RUN,
    "yolo": {*OF_A_RUN["yolo"], *(f"yolo/labels/{image.name}.txt" for image, _ in RUN)},
    "labelme": {f"labelme/{image.name}.json" for image, _ in RUN},
    "geojson": {f"geojson/{image.name}.geojson" for image, _ in RUN},
    "voc": {
        *OF_A_RUN["voc"],
        *(f"voc/Annotations/{image.name}.xml" for image, _ in RUN),
        *(f"voc/Segmentation{what}/{image.name}.png" for image, _ in RUN for what in ("Class", "Object")),
    },
    "ids": {f"ids/{image.name}.png" for image, _ in RUN},
    "overlay": {f"overlays/{image.name}.jpg" for image, _ in RUN},
    "objects": object_files("objects"),
    "cutouts": object_files("cutouts"),
    "edges": {f"edges/{image.name}.png" for image, _ in RUN},
    "panoptic": {"panoptic.json", *(f"panoptic/{image.name}.{kind}" for image, _ in RUN for kind in ("png", "json"))},
    "amg": {
        *(f"amg/{image.name}/{i}.png" for image, instances in RUN for i in range(len(instances))),
        *(f"amg/{image.name}/metadata.csv" for image, _ in RUN),
    },
    "amg-rle": {f"amg_rle/{image.name}.json" for image, _ in RUN},
    "sa1b": {f"sa1b/{image.name}.json" for image, _ in RUN},
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_output_writes_its_files_and_the_same_again(name: str, destination: Destination) -> None:
    write_all(build(name, destination))
    first = files(destination)
    assert set(first) == EXPECTED[name]
    of_parts = {file for file in OUTPUTS[name].files if file.endswith(("_train.json", "_val.json", "_test.json"))}
    assert {path.split("/")[0] for path in first} == set(OUTPUTS[name].files) - of_parts
    write_all(build(name, destination))
    assert files(destination) == first
    assert not list(destination.scratch.iterdir())
    destination.path("mine.txt").touch()
    remove_outputs(destination.folder, [name])
    assert set(files(destination)) == {"mine.txt"}


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_output_is_refused_to_a_job_that_gives_less(name: str) -> None:
    kinds = ("boxes", "masks", "edges")
    needs = OUTPUTS[name].needs
    for gives in kinds[: kinds.index(needs)]:
        with pytest.raises(UsageError, match=f"^'{name}' needs {needs}, and .*; choose from: .*boxes"):
            check_needs(["boxes", name], gives)
    for gives in kinds[kinds.index(needs) :]:
        check_needs(["boxes", name], gives)


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_output_takes_a_run_that_found_nothing(name: str, destination: Destination) -> None:
    output = build(name, destination)
    output.write(photo("empty.jpg"), NOTHING)
    output.finish(lambda: [make_record(photo("empty.jpg"), NOTHING, 1), RECORDS[1]])
    assert {path.split("/")[0] for path in files(destination)} <= {path.split("/")[0] for path in EXPECTED[name]}


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_run_of_no_images_is_finished_all_the_same(name: str, destination: Destination) -> None:
    build(name, destination).finish(lambda: [])
    assert set(files(destination)) == OF_A_RUN.get(name, set())


@pytest.mark.parametrize("name", OUTPUTS)
def test_options_fill_fields(name: str) -> None:
    row = OUTPUTS[name]
    assert set(row.takes.values()) <= {field.name for field in fields(row.load())} - {"destination"}


# COCO and JSONL


def write_coco(destination: Destination) -> tuple[COCO, COCO]:
    for name in ("coco", "dataset"):
        write_all(build(name, destination))
    truth = COCO(str(destination.path("coco_dataset.json")))
    return truth, truth.loadRes(str(destination.path("coco_results.json")))


def test_pycocotools_loads_both_files_and_every_mask_comes_back(destination: Destination) -> None:
    found = [(record, instance) for record in RECORDS for instance in record.instances]
    for number, coco in enumerate(write_coco(destination)):
        annotations = list(coco.anns.values())
        assert [annotation["id"] for annotation in annotations] == list(range(1, len(found) + 1))
        for annotation, (record, instance) in zip(annotations, found, strict=True):
            assert annotation["image_id"] == record.image_id
            keys = ("category_id", "score", "predicted_iou", "stability_score", "segmentation")
            assert [annotation[key] for key in keys] == [instance[key] for key in keys]
            box = instance["bbox"] if number else rle.bbox(instance["segmentation"])
            assert annotation["bbox"] == box
        for image_id in (30, 10):
            masks = [coco.annToMask(annotation) for annotation in coco.imgToAnns[image_id]]
            assert np.array_equal(np.stack(masks), np.stack(shapes()))


def test_dataset_lists_images_that_were_read_and_counts_the_others(destination: Destination) -> None:
    truth, _ = write_coco(destination)
    assert [(image["id"], image["file_name"]) for image in truth.dataset["images"]] == [
        (record.image_id, record.name) for record in RECORDS if record.status != "failed"
    ]
    assert {(image["width"], image["height"]) for image in truth.dataset["images"]} == {(WIDTH, HEIGHT)}
    assert truth.dataset["info"]["images"] == {"done": 2, "empty": 1, "failed": 1}
    assert truth.dataset["categories"] == [{"id": c.id, "name": c.name} for c in CATEGORIES.values()]
    assert [annotation["area"] for annotation in truth.imgToAnns[30]] == [int(mask.sum()) for mask in shapes()]
    assert {annotation["iscrowd"] for annotation in truth.anns.values()} == {0}


def test_json_files_are_ascii_with_one_entry_a_line(destination: Destination) -> None:
    write_coco(destination)
    results, dataset = (destination.path(RESULTS[name]).read_bytes() for name in ("coco", "dataset"))
    assert (results + dataset).isascii()
    assert len(results.splitlines()) == 2 + 8
    assert len(dataset.splitlines()) == 1 + 3 * 2 + 3 + 8 + 3


def test_results_of_nothing_are_an_empty_list(destination: Destination) -> None:
    build("coco", destination).finish(lambda: [RECORDS[1]])
    assert json.loads(destination.path("coco_results.json").read_text()) == []


def test_records_come_back_in_order(destination: Destination) -> None:
    write_all(build("jsonl", destination))
    lines = destination.path("records.jsonl").read_text(encoding="utf-8").splitlines()
    assert [Record.from_line(line) for line in lines] == RECORDS


def test_records_are_streamed(destination: Destination) -> None:
    """No output holds more than one record: each is dead when the next is asked for."""

    def stream() -> Iterable[Record]:
        earlier: list[weakref.ref[Record]] = []
        for number in range(5):
            assert sum(ref() is not None for ref in earlier) <= 1
            record = make_record(*RUN[0], number)
            earlier.append(weakref.ref(record))
            yield record
            del record

    for name in OF_A_RUN:
        output = build(name, destination)
        output.write(*RUN[0])
        output.finish(stream)
        list(output.notes(stream))


# PNG


@settings(max_examples=50)
@given(st.lists(arrays.arrays(np.bool_, (6, 7)), max_size=5))
def test_ids_show_the_smallest_mask_of_each_pixel(tmp_path_factory: pytest.TempPathFactory, masks: list[Bool]) -> None:
    folder = tmp_path_factory.mktemp("ids", numbered=True)
    image = photo("x.jpg", 6, 7)
    build("ids", Destination(folder, folder, CATEGORIES)).write(image, make_instances(masks))
    ids = read(folder / "ids" / "x.jpg.png")
    assert ids.dtype == np.uint8
    for (y, x), shown in np.ndenumerate(ids):
        areas = [int(mask.sum()) for mask in masks if mask[y, x]]
        assert (int(masks[shown - 1].sum()) == min(areas) and masks[shown - 1][y, x]) if shown else not areas


def test_ids_go_beyond_eight_bits_and_end_at_sixteen(destination: Destination) -> None:
    image = photo("x.jpg", 20, 20)
    output = build("ids", destination)

    def pixels(n: int) -> Instances:
        rles = tuple(rle.from_runs([i % 400, 1, 399 - i % 400], 20, 20) for i in range(n))
        zeros = np.zeros(n, np.float32)
        return Instances(
            Detections(np.zeros((n, 4), np.float32), zeros, np.ones(n, np.int64)), Masks(rles, zeros, zeros)
        )

    output.write(image, pixels(400))
    assert np.array_equal(read(destination.path("ids", "x.jpg.png")).T.ravel(), range(1, 401))
    with pytest.raises(ImageError, match="65,536 instances"):
        output.write(image, pixels(65_536))


def test_objects_are_the_masks(destination: Destination) -> None:
    write_all(build("objects", destination))
    folder = destination.path("objects", "a/b.jpg")
    for path, mask in zip(sorted(folder.iterdir()), shapes(), strict=True):
        pixels = read(path)
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, mask * 255)


def test_cutouts_are_the_objects_own_pixels(destination: Destination) -> None:
    write_all(build("cutouts", destination))
    image = RUN[0][0]
    for path, mask in zip(sorted(destination.path("cutouts", image.name).iterdir()), shapes(), strict=True):
        x, y, width, height = rle.bbox(rle.encode(mask))
        window = np.s_[y : y + height, x : x + width]
        expected = np.dstack([image.pixels, np.full(mask.shape, 255, np.uint8)]) * mask[..., None]
        assert np.array_equal(read(path), expected[window])


@pytest.mark.parametrize("kind", ["objects", "cutouts"])
def test_files_of_an_earlier_attempt_go_and_others_stay(kind: str, destination: Destination) -> None:
    output = build(kind, destination)
    image, neighbour = photo("a.jpg"), photo("a.png")
    for each in (image, neighbour):
        output.write(each, FOUND)
    mine = destination.path(kind, "a.jpg", "notes.png")
    mine.write_text("the user's own")
    output.write(image, make_instances(shapes()[:1], [7]))
    assert set(files(destination)) == {
        f"{kind}/a.jpg/000_{SAFE[7]}.png",
        f"{kind}/a.jpg/notes.png",
        *(f"{kind}/a.png/{i:03d}_{SAFE[c]}.png" for i, c in enumerate([1, 7, 90, 1])),
    }


def test_a_mask_without_pixels_has_a_black_object_and_no_cutout(destination: Destination) -> None:
    blank = np.zeros((HEIGHT, WIDTH), np.bool_)
    instances = make_instances([blank, shapes()[0]])
    for kind in ("objects", "cutouts", "ids", "overlay"):
        build(kind, destination).write(photo("x.jpg"), instances)
    assert not read(destination.path("objects", "x.jpg", "000_person.png")).any()
    assert [path.name for path in destination.path("cutouts", "x.jpg").iterdir()] == ["001_person.png"]


@given(st.text(max_size=300))
@settings(max_examples=30)
def test_any_category_name_makes_a_file_name(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.mktemp("names", numbered=True)
    build("objects", Destination(folder, folder, {1: Category(1, name)})).write(
        photo("x"), make_instances(shapes()[:1])
    )
    (path,) = (folder / "objects" / "x").iterdir()
    assert path.name.startswith("000_")
    assert not set(path.name) & set('<>:"/\\|?* \0\n')
    assert len(path.name.encode()) <= 110
