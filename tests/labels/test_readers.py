"""Labels of every format: what is read, what is recognised, what is left out and told, what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil
from support.label_files import (
    DOG,
    FILES,
    HEIGHT,
    HOLED,
    PERSON,
    RING,
    SOLID,
    SQUARE,
    WIDTH,
    WITHOUT_EMPTY,
    write_files,
)

from pipelines import rle
from pipelines.detectors.box_file import BoxFileDetector
from pipelines.errors import DataError, UsageError
from pipelines.labels import LABELS, Asked
from pipelines.labels.glimpse import open_labels
from pipelines.outputs.png import VOC_PALETTE
from pipelines.records import Record
from pipelines.types import Image


def read(folder: Path, *, name: str | None = None, **asked: Any) -> tuple[dict[int, str], list[Record], list[str]]:
    """Categories, records and notes."""
    labels = open_labels(folder, Asked(**{"photos": folder / "photos", **asked}), name)
    records = list(labels.records)
    assert len(records) == labels.count
    return {category.id: category.name for category in labels.categories}, records, labels.left_out.notes("labels")


def scene(folder: Path, format: str, change: Callable[[dict[str, Any]], None] = lambda files: None) -> Path:
    files = deepcopy(FILES[format])
    change(files)
    return write_files(folder, files)


def test_every_format_has_an_example() -> None:
    assert set(FILES) == set(LABELS)


def test_the_page_of_formats_lists_every_row() -> None:
    page = (Path(__file__).parents[2] / "docs/labels.md").read_text("utf-8")
    assert re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE) == list(LABELS)


@pytest.mark.parametrize("format", FILES)
def test_the_scene_is_read(tmp_path: Path, format: str) -> None:
    names, records, notes = read(scene(tmp_path, format))
    found = records[0]
    assert (found.width, found.height, found.status) == (WIDTH, HEIGHT, "done")
    assert Path(found.name).name == "a.png"
    person, dog = found.instances
    assert [names[each["category_id"]] for each in (person, dog)] == ["person", "dog"]
    assert person["bbox"] == pytest.approx(PERSON) and dog["bbox"] == pytest.approx(DOG)
    assert (rle.decode(person["segmentation"]) == (RING if format in HOLED else SOLID)).all()
    assert "segmentation" not in dog and not notes
    assert [(record.status, record.instances) for record in records[1:]] == (
        [("empty", ())] if format not in WITHOUT_EMPTY else []
    )


@pytest.mark.parametrize("format", FILES)
def test_the_boxes_of_the_scene_are_prompts(tmp_path: Path, format: str) -> None:
    path = scene(tmp_path, format)
    if format in ("coco", "coco-results", "csv"):
        path = next(path.glob("labels.*"))
    photo = Image("photos/a.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    detector = BoxFileDetector(path, None, {"photos/a.png": 1, "photos/b.png": 2})
    (found,) = detector([photo])
    x, y, w, h = np.array([PERSON, DOG], np.float32).T
    np.testing.assert_allclose(found.boxes, np.stack([x, y, x + w, y + h], 1), atol=1e-5)
    assert not detector.of_file and len(detector.notes) == (
        format in ("coco-results", "parquet")
    )  # which does not list b.png


def test_a_folder_of_two_formats_is_ambiguous(tmp_path: Path) -> None:
    write_files(scene(tmp_path, "voc"), FILES["labelme"])
    with pytest.raises(
        DataError, match=r"read as voc \(Annotations/a.xml\) and labelme \(labels/a.json\).*--box-format"
    ):
        read(tmp_path)
    assert len(read(tmp_path, name="voc")[1]) == 2


def test_a_run_that_holds_one_kind_of_labels_is_a_folder_of_it(tmp_path: Path) -> None:
    write_files(scene(tmp_path, "yolo"), {"run.json": {"images": {"total": 2}, "categories": {}}})
    assert len(read(tmp_path)[1]) == 2


def test_class_names_are_asked_for(tmp_path: Path) -> None:
    scene(tmp_path, "yolo", lambda files: files.pop("data.yaml"))
    with pytest.raises(DataError, match=r"no data.yaml and no classes.txt.*--class-names"):
        read(tmp_path)
    assert read(tmp_path, names=("person", "dog"))[0] == {1: "person", 2: "dog"}
    (tmp_path / "photos" / "classes.txt").write_text("person\ndog\n\n")
    assert read(tmp_path / "photos", photos=None)[0] == {1: "person", 2: "dog"}
    with pytest.raises(DataError, match="has a class 1, but only 1 are named"):
        read(tmp_path, names=("person",))


@pytest.mark.parametrize(
    ("line", "box", "score"),
    [
        ("1 0.65 0.5 0.3 0.8 0.25", DOG, 0.25),
        ("1 0.5 0.1 0.8 0.1 0.8 0.9 0.5 0.9 0.25", DOG, 0.25),
        ("1.0 0.5 0.1 0.8 0.1 0.8 0.9 0.5 0.9", DOG, 1.0),
    ],
)
def test_yolo_scores(tmp_path: Path, line: str, box: list[float], score: float) -> None:
    _, (found, _), _ = read(scene(tmp_path, "yolo", lambda files: files.update({"photos/a.txt": line})))
    assert found.instances[0]["bbox"] == pytest.approx(box) and found.instances[0]["score"] == score


def test_yolo_labels_lie_beside_images(tmp_path: Path) -> None:
    """As ultralytics has it: `labels` for `images`, anywhere in the path."""
    scene(tmp_path, "yolo")
    for name in ("images", "labels"):
        (tmp_path / "set" / name / "train").mkdir(parents=True)
    (tmp_path / "photos" / "a.png").rename(tmp_path / "set" / "images" / "train" / "a.jpg")
    (tmp_path / "photos" / "a.txt").rename(tmp_path / "set" / "labels" / "train" / "a.txt")
    (tmp_path / "photos" / "b.png").rename(tmp_path / "set" / "images" / "train" / "b.png")
    for place, name in ((tmp_path / "set", "train/a.jpg"), (tmp_path / "set" / "labels", "train/a.jpg")):
        _, records, notes = read(place, photos=None)
        assert [record.name for record in records] == [name] and len(records[0].instances) == 2
        assert len(notes) == 1 and notes[0].startswith("left out of labels: 1 photo without a text file (b.png)")


def _labelme(**shape: Any) -> Callable[[dict[str, Any]], None]:
    """Add a shape."""
    return lambda files: files["labels/a.json"]["shapes"].append({"label": "person", **shape})


def _cvat(element: str) -> Callable[[dict[str, Any]], None]:
    return lambda files: files.update(
        {"annotations.xml": files["annotations.xml"].replace("</image>", element + "</image>", 1)}
    )


def _studio(region: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    return lambda files: files["export.json"][0]["annotations"][0]["result"].append({**size, **region})


def _pose(files: dict[str, Any]) -> None:
    files["data.yaml"] += "kpt_shape: [1, 3]\n"
    files["photos/a.txt"] = "0 0.25 0.5 0.3 0.4 0.2 0.4 2\n"


def _two_annotators(files: dict[str, Any]) -> None:
    files["export.json"][0]["annotations"].append({"was_cancelled": False, "result": []})


LEFT_OUT: list[tuple[str, Callable[[dict[str, Any]], None], str]] = [
    ("yolo", _pose, "left out of labels: 1 object's keypoints (photos/a.png)"),
    (
        "yolo",
        lambda files: files.update({"photos/a.txt": "0 0.1 0.3 0.4 0.3 0.4 0.7\n"}),
        "1 line of 7 numbers read as triangle; a box with score and track id looks alike (photos/a.png)",
    ),
    ("labelme", _labelme(points=[[1, 1]], shape_type="point"), '1 shape of type "point" (photos/a.png)'),
    (
        "labelme",
        _labelme(points=[[1, 0], [2, 1], [1, 2], [0, 1]], shape_type="oriented_rectangle"),
        "labels: 1 box that is rotated read as the upright box around it (photos/a.png)",
    ),
    ("labelme", lambda files: files.update({"x.json": {}}), "1 JSON file that is not LabelMe's (x.json)"),
    (
        "voc",
        lambda files: files.update(
            {"Annotations/a.xml": files["Annotations/a.xml"].replace("<polygon>", "<difficult>1</difficult><polygon>")}
        ),
        "1 flag 'difficult' (a.png)",
    ),
    ("cvat", _cvat('<points label="dog" points="1,2;3,4"/>'), "1 set of points (a.png)"),
    ("cvat", _cvat('<cuboid label="dog"/><cuboid label="dog"/>'), "2 cuboids (a.png)"),
    (
        "cvat",
        _cvat('<box label="dog" xtl="10" ytl="1" xbr="16" ybr="9" rotation="30"/>'),
        "labels: 1 box that is rotated read as the upright box around it (a.png)",
    ),
    ("label-studio", _studio({"type": "keypointlabels", "value": {}}), '1 region of type "keypointlabels" (a.png)'),
    ("label-studio", _two_annotators, "1 further annotation or prediction of a task (a.png)"),
    (
        "coco",
        lambda files: files["labels.json"]["annotations"][0].update({"iscrowd": 1, "keypoints": [1, 2, 2]}),
        "labels: 1 crowd read as one object each (a.png)",
    ),
]


@pytest.mark.parametrize(("format", "change", "note"), LEFT_OUT, ids=lambda value: value if type(value) is str else "")
def test_what_is_left_out_is_told(
    tmp_path: Path, format: str, change: Callable[[dict[str, Any]], None], note: str
) -> None:
    assert any(note in each for each in read(scene(tmp_path, format, change))[2])


def test_labelme_parts_of_a_group_are_one_object(tmp_path: Path) -> None:
    far = [[12, 0], [14, 0], [14, 2], [12, 2]]

    def change(files: dict[str, Any]) -> None:
        files["labels/a.json"]["shapes"][0]["group_id"] = 3
        files["labels/a.json"]["shapes"].append({"label": "person", "points": far, "group_id": 3})

    _, (found, _), _ = read(scene(tmp_path, "labelme", change))
    both = SOLID.copy()
    both[:2, 12:14] = True
    assert len(found.instances) == 2 and (rle.decode(found.instances[0]["segmentation"]) == both).all()
    assert found.instances[0]["bbox"] == [2, 0, 12, 7]


def test_labelme_photos_elsewhere_are_called_as_if_they_lay_beside(tmp_path: Path) -> None:
    """As `--save labelme` has it; and nothing but a photo is ever looked at there."""

    def change(files: dict[str, Any]) -> None:
        files["labels/sub/c.json"] = {**files.pop("labels/b.json"), "imagePath": "../../photos/b.png"}
        files["labels/d.json"] = {**files["labels/a.json"], "imagePath": "../../../secret.txt"}

    scene(tmp_path, "labelme", change)
    (tmp_path / "secret.txt").write_text("")
    labels = open_labels(tmp_path / "labels", Asked())
    assert [record.name for record in labels.records] == ["a.png", "secret.txt", "sub/b.png"]
    assert {name: path.name for name, path in labels.photos.items()} == {"a.png": "a.png", "sub/b.png": "b.png"}


@pytest.mark.parametrize("colours", [False, True])
def test_voc_masks_are_numbered_as_the_objects_are(tmp_path: Path, colours: bool) -> None:
    """In a palette's indices, or in VOC's colours as datumaro writes them; a mask outside of its box is none of it."""
    values = np.where(RING, 1, 255).astype(np.uint8)
    values[9, 0:3] = [0, 2, 3]
    picture = np.asarray(VOC_PALETTE)[values] if colours else values
    scene(tmp_path, "voc")
    (tmp_path / "SegmentationObject").mkdir()
    Pil.fromarray(picture).save(tmp_path / "SegmentationObject/a.png")
    _, (found, _), notes = read(tmp_path)
    assert (rle.decode(found.instances[0]["segmentation"]) == RING).all() and "segmentation" not in found.instances[1]
    assert [note.partition(": ")[2] for note in notes] == [
        "1 mask of SegmentationObject that leaves the box of its object (a.png)",
        "1 mask of SegmentationObject that no object has the number of (a.png)",
    ]


def test_label_studio_turns_a_box_about_its_corner(tmp_path: Path) -> None:
    value = {"x": 50, "y": 0, "width": 20, "height": 40, "rotation": 90, "rectanglelabels": ["dog"]}
    _, (found, _), _ = read(scene(tmp_path, "label-studio", _studio({"type": "rectanglelabels", "value": value})))
    assert found.instances[2]["bbox"] == pytest.approx([6, 0, 4, 4])


BOMB = '<!DOCTYPE a [<!ENTITY b "bbb"><!ENTITY c "&b;&b;">]>'


def _text(path: str, old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(files: dict[str, Any]) -> None:
        text = files[path] if isinstance(files[path], str) else json.dumps(files[path])
        assert old in text
        files[path] = text.replace(old, new, 1)

    return change


FAULTS: list[tuple[str, Callable[[dict[str, Any]], None], str]] = [
    ("yolo", _text("photos/a.txt", "0.65", "nan"), r"a.txt: line 2: it holds a value that is not a finite number"),
    ("yolo", _text("photos/a.txt", "0.65", "1e308"), r"a.txt: line 2: it holds 1e\+308: shares .* are these pixels"),
    ("yolo", _text("photos/a.txt", "0.65", "13"), r"a.txt: line 2: it holds 13: shares .* are these pixels"),
    ("yolo", _text("photos/a.txt", "0.65", "x"), r'a.txt: line 2: it holds "x", not a number'),
    ("yolo", _text("photos/a.txt", " 0.3 0.8", " -0.3 0.8"), r"a.txt: line 2: it holds -0.3"),
    ("yolo", _text("photos/a.txt", "1 0.65", "-1 0.65"), r'line 2: its class is "-1", not a whole number from 0'),
    ("yolo", _text("photos/a.txt", " 0.3 0.8", " 0.3"), r"line 2: it has 3 numbers after the class: a box has four"),
    ("yolo", _text("photos/a.txt", "0.3 0.8", "0.3 0.8 7"), r"its last number is 7: a score is from 0 to 1"),
    ("yolo", _text("data.yaml", "names:", "names: &a [*a, *a]\nx:"), r"data.yaml"),
    ("yolo", _text("data.yaml", "  1: dog", "  2: dog"), r"data.yaml: the numbers of 'names' are not 0 to 1"),
    ("labelme", _text("labels/a.json", "[8, 3]", "[NaN, 3]"), r"a.json: shape 0: .*NaN, not a finite number"),
    ("labelme", _text("labels/a.json", "[8, 3]", "[1e308, 3]"), r"a.json: shape 0: .*too large a number"),
    ("labelme", _text("labels/a.json", "[8, 3]", "[8]"), r"a.json: shape 0: 'points' is .*not a list of points"),
    ("labelme", _text("labels/a.json", '"person"', "7"), r"a.json: shape 0: 'label' is 7, not text"),
    ("labelme", _text("labels/a.json", '"imageWidth": 20', '"imageWidth": -20'), r"'width' is -20"),
    ("labelme", _text("labels/a.json", '"imageWidth": 20', '"imageWidth": 4000000000'), "too many pixels"),
    ("labelme", lambda files: files.update({"labels/b.json": '{"shapes": ['}), r"b.json is not a LabelMe file"),
    (
        "labelme",
        _labelme(points=[[2, 3], [3, 3]], shape_type="mask", mask="AAAA"),
        r"a.json: shape 2: 'mask' is no PNG that can be read",
    ),
    ("voc", _text("Annotations/a.xml", "<annotation>", BOMB + "<annotation>"), r"a.xml: it declares an entity"),
    ("voc", _text("Annotations/a.xml", "<xmin>3<", "<xmin>inf<"), r"a.xml: object 1: 'xmin' is Infinity"),
    ("voc", _text("Annotations/a.xml", "<xmin>3<", "<xmin>3.x<"), r'a.xml: object 1: xmin is "3.x", not a number'),
    ("voc", _text("Annotations/a.xml", "<width>20<", "<width>-20<"), r"a.xml: its width is \"-20\""),
    ("voc", _text("Annotations/a.xml", "<name>person</name>", ""), r"a.xml: <object> has no <name>"),
    ("voc", _text("Annotations/a.xml", "</annotation>", ""), r"a.xml is not a Pascal VOC file: no element found"),
    ("voc", _text("Annotations/a.xml", "<folder>", "<a>" * 99), r"a.xml: its elements are nested more than 50 deep"),
    ("cvat", _text("annotations.xml", "<annotations>", BOMB + "<annotations>"), "it declares an entity"),
    ("cvat", _text("annotations.xml", 'left="2"', 'left="15"'), r"image 0: <mask> 0: .*leaves its image of 20 x 10"),
    ("cvat", _text("annotations.xml", 'left="2"', 'left="-2"'), r'image 0: <mask> 0: left is "-2"'),
    ("cvat", _text("annotations.xml", 'rle="', 'rle="9'), r"run lengths do not fill 6 x 4 pixels"),
    ("cvat", _text("annotations.xml", 'xtl="10"', 'xtl="nan"'), r"image 0: <box> 1: 'xtl' is NaN"),
    ("cvat", _text("annotations.xml", 'label="dog"', 'label=""'), "image 0: <box> 1: the name of its class is empty"),
    ("cvat", _text("annotations.xml", 'label="dog"', ""), r"<box> has no attribute 'label'"),
    ("cvat", _text("annotations.xml", "<image id", "<track id='1'></track><image id"), "has tracks of a video"),
    ("label-studio", _text("export.json", '"x": 50', '"x": NaN'), r"task 0: region 1: 'x' is NaN"),
    ("label-studio", _text("export.json", '"width": 30', '"width": -30'), r"region 1: its box is upside down"),
    ("label-studio", _text("export.json", '"rle": [0', '"rle": [9'), r"region 0: 'rle' holds \d+ values"),
    ("label-studio", _text("export.json", '"rle": [', '"rle": [256, '), r"region 0: 'rle' is .*, not a list of bytes"),
    (
        "label-studio",
        _text("export.json", '"original_width": 20', '"original_width": 99999999'),
        "too many pixels|pixels",
    ),
    ("label-studio", _text("export.json", '"annotations"', '"labels"'), r"task 0: it has neither 'annotations' nor"),
    ("label-studio", _text("export.json", "}]", "}"), r"it is not JSON"),
    ("coco", _text("labels.json", '"image_id": 7', '"image_id": 9'), r"for image 9, which is not in its list 'images'"),
    ("coco", _text("labels.json", '"category_id": 18', '"category_id": 3'), r"annotation 1: 'category_id' is 3"),
    ("coco", _text("labels.json", '"counts": [', '"counts": [1, '), r"annotation 0: the run lengths of .* do not fill"),
    ("coco", _text("labels.json", "[10.0,", "[Infinity,"), r"annotation 1: .*Infinity"),
    ("coco", _text("labels.json", '"id": 8', '"id": 7'), "two of its images have the same id"),
    ("coco-results", _text("labels.json", '"score": 1.0', '"score": "x"'), r"annotation 0: 'score' is \"x\""),
    ("jsonl", _text("records.jsonl", '"score": 1.0', '"score": -1e999'), "line 1: not an image record|line 1: .*score"),
    ("csv", _text("labels.csv", "2.0,3.0", "nan,3.0"), r"line 2: 'x' is NaN, not a finite number"),
    ("csv", _text("labels.csv", "2.0,3.0", "2.0,-1e308"), r"line 2: 'y' is -1e\+308, too large a number"),
    ("csv", _text("labels.csv", "6.0,4.0", "6.0,-4.0"), r"line 2: box 0 .*has no area"),
    ("csv", _text("labels.csv", ",20,10,", ",-20,10,"), r'line 2: width is "-20", not a whole number'),
    ("csv", _text("labels.csv", "dog,18", "dog,1"), "line 3: category 1 is called"),
    ("csv", _text("labels.csv", "image,", "file,"), "its columns are not image and x, y, w, h"),
    ("csv", _text("labels.csv", "1.0,", "1.0,0"), r"line 2: a mask's run lengths do not fill its 20 x 10 pixels"),
    (
        "csv",
        _text("labels.csv", "a.png,7,20,10,dog", "b.png,8,20,10,dog,18,1,1,1,1,1,\na.png,7,20,10,dog"),
        "sort the table",
    ),
    ("parquet", lambda files: files.update({"labels.parquet": b"PAR1" + bytes(40)}), "is not a Parquet file"),
    ("jsonl", _text("records.jsonl", '"bbox": [2.0', '"bbox": ["2"'), r"line 1: instance 0: .*'bbox'"),
]


@pytest.mark.parametrize(
    ("format", "change", "words"), FAULTS, ids=lambda value: value[:40] if isinstance(value, str) else ""
)
def test_faults_are_one_line_that_names_the_place(
    tmp_path: Path, format: str, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    scene(tmp_path, format, change)
    with pytest.raises(DataError, match=words) as error:
        read(tmp_path, name=format)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize("name", ["../../../etc/a.png", "/etc/a.png", "C:\\x\\a.png", "..\\..\\a.png"])
def test_names_stay_below_the_root(tmp_path: Path, name: str) -> None:
    def change(files: dict[str, Any]) -> None:
        files["annotations.xml"] = files["annotations.xml"].replace("a.png", name)

    _, (found, _), _ = read(scene(tmp_path, "cvat", change))
    assert not found.name.startswith(("/", "..")) and ":" not in found.name and found.name.endswith("a.png")


def test_formats_that_say_how_they_count_take_no_layout(tmp_path: Path) -> None:
    scene(tmp_path, "voc")
    with pytest.raises(UsageError, match="drop --box-format xyxy"):
        BoxFileDetector(tmp_path, "xyxy", {"a.png": 1})


def test_a_square_is_as_many_pixels_as_its_sides_say() -> None:
    assert SOLID.sum() == (SQUARE[1][0] - SQUARE[0][0]) * (SQUARE[2][1] - SQUARE[1][1])
