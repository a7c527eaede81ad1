"""Annotated pictures made for trouble: crowds, ties, empty images, boxes without area or outside, every mask format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pil
from pycocotools import mask as coco_mask
from reference import plain_evaluation as plain

from pipelines.sam.encoded import Prediction
from pipelines.types import Image, Rle

HEIGHT, WIDTH = 120, 160
CATEGORIES = [
    {"id": 2, "name": "cat", "frequency": "f"},
    {"id": 3, "name": "dog", "frequency": "c"},
    {"id": 7, "name": "never seen", "frequency": "r"},
    {"id": 9, "name": "bird", "frequency": "r"},
]


def compressed(mask: np.ndarray) -> Rle:
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return Rle(size=list(mask.shape), counts=rle["counts"].decode())


def uncompressed(mask: np.ndarray) -> dict:
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(np.int8))).tolist()
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, flat.size]).tolist()}


def rectangle(x: int, y: int, w: int, h: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y : y + h, x : x + w] = True
    return mask


def blob(rng: np.random.Generator) -> np.ndarray:
    """An ellipse with a hole, somewhere, perhaps over the border."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    cx, cy = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
    rx, ry = np.exp(rng.uniform(1.2, 4, 2))
    distance = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2
    return (distance <= 1) & (distance > rng.choice([0, 0.1]))


def crafted(seed: int = 0, images: int = 6, objects: int = 5) -> dict:
    """COCO ground truth. Image ids do not rise; the last image has no object; scores of LVIS are in it too."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(np.arange(10, 10 + images)).tolist()
    listed = [
        {
            "id": id,
            "file_name": f"{id:012d}.jpg",
            "width": WIDTH,
            "height": HEIGHT,
            "neg_category_ids": [3],
            "not_exhaustive_category_ids": [2] if id % 2 else [],
        }
        for id in ids
    ]
    annotations: list[dict] = []

    def add(image: int, mask: np.ndarray, segmentation: object, **fields: object) -> None:
        entry = {
            "id": len(annotations) + 1,
            "image_id": ids[image],
            "category_id": int(rng.choice([2, 3, 9])),
            "bbox": [float(side) for side in coco_mask.toBbox(compressed(mask))],
            "area": float(mask.sum()),
            "iscrowd": 0,
            "segmentation": segmentation,
        }
        annotations.append(entry | fields)

    for image in range(images - 1):
        for _ in range(objects):
            mask = blob(rng)
            if mask.any():
                add(image, mask, compressed(mask))
    square = rectangle(20, 30, 32, 32)
    add(0, square, compressed(square))  # 1024 exactly
    square = rectangle(5, 6, 96, 96)
    add(0, square, uncompressed(square))  # 9216 exactly
    crowd = rectangle(60, 10, 90, 100)
    add(0, crowd, uncompressed(crowd), iscrowd=1)
    crowd = rectangle(0, 0, 50, 50)
    add(1, crowd, compressed(crowd), iscrowd=1, category_id=2)
    add(1, plain.decode([[10.0, 10, 60, 12, 40, 70], [90, 20, 130, 20, 130, 60, 90, 60]], HEIGHT, WIDTH),
        [[10.0, 10, 60, 12, 40, 70], [90, 20, 130, 20, 130, 60, 90, 60]])  # fmt: skip
    tiny = rectangle(100, 100, 1, 1)
    add(1, tiny, compressed(tiny), area=0.4)  # below 1: not an object of the published protocol
    add(2, tiny, compressed(tiny), bbox=[100.0, 100.0, 0.0, 0.0])  # a box without area
    edge = rectangle(150, 110, 10, 10)
    add(2, edge, compressed(edge), bbox=[150.0, 110.0, 40.0, 30.0])  # a box that leaves the image
    add(2, edge, compressed(edge), bbox=[200.0, 150.0, 10.0, 10.0])  # a box outside the image
    return {"images": listed, "annotations": annotations, "categories": CATEGORIES}


def ellipse(height: int, width: int, cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1


def annotated_photographs(folder: Path, photographs: Sequence[Path]) -> Path:
    """`truth.json` and `images` below `folder`: two photographs with rough outlines, and a grey picture without any.

    Seven objects in all. Among them a crowd, one under a pixel, areas of 1024 and 9216 exactly, a box without area and
    one outside its image.
    """
    (folder / "images").mkdir()
    sizes = {"street.jpg": (240, 320), "game.jpg": (320, 180), "grey.jpg": (64, 48)}
    pictures = [Pil.open(path).convert("RGB") for path in photographs] + [Pil.new("RGB", (64, 48), (90, 90, 90))]
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, ((name, size), picture) in enumerate(zip(sizes.items(), pictures, strict=True), 1):
        picture.resize(size).save(folder / "images" / name, quality=95)
        listed.append({"id": number * 11, "file_name": name, "width": size[0], "height": size[1]})

    def add(image: int, category: int, mask: np.ndarray, **fields: object) -> None:
        ys, xs = np.nonzero(mask)
        box = [float(xs.min()), float(ys.min()), float(np.ptp(xs) + 1), float(np.ptp(ys) + 1)]
        entry = {"id": len(annotations) + 1, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0}
        annotations.append(entry | {"area": float(mask.sum()), "segmentation": compressed(mask)} | fields)

    add(11, 6, ellipse(320, 240, 120, 145, 115, 70))
    add(11, 4, ellipse(320, 240, 40, 190, 24, 75))
    add(11, 4, ellipse(320, 240, 215, 190, 20, 75), iscrowd=1)
    add(22, 4, ellipse(180, 320, 215, 100, 62, 85))
    add(22, 4, ellipse(180, 320, 90, 120, 75, 62), area=0.5)
    add(22, 6, ellipse(180, 320, 60, 60, 20, 17), area=1024.0, bbox=[60.0, 60.0, 0.0, 0.0])
    add(22, 6, ellipse(180, 320, 260, 60, 55, 54), area=9216.0, bbox=[400.0, 10.0, 50.0, 50.0])
    categories = [{"id": 4, "name": "Person"}, {"id": 6, "name": "bus"}]
    return write(folder, "truth.json", {"images": listed, "annotations": annotations, "categories": categories}).parent


def noisy_results(truth: dict, seed: int = 1, extra: int = 20) -> list[dict]:
    """Results that are right, shifted, doubled, of another class, or nowhere; with equal scores; some images none."""
    rng = np.random.default_rng(seed)
    ids = [image["id"] for image in truth["images"]]
    results = []
    for annotation in truth["annotations"]:
        mask = plain.decode(annotation["segmentation"], HEIGHT, WIDTH)
        for _ in range(int(rng.integers(0, 4))):
            shift = tuple(rng.integers(-3, 4, 2).tolist())
            category = annotation["category_id"] if rng.random() < 0.8 else int(rng.choice([2, 3, 7, 9]))
            results.append(_result(annotation["image_id"], category, np.roll(mask, shift, (0, 1)), rng))
    for _ in range(extra):
        results.append(_result(int(rng.choice(ids[:-1])), int(rng.choice([2, 3, 9])), blob(rng), rng))
    rng.shuffle(results)
    return results


def _result(image_id: int, category_id: int, mask: np.ndarray, rng: np.random.Generator) -> dict:
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [float(side) for side in coco_mask.toBbox(compressed(mask))],
        "score": round(float(rng.random()), 1),
        "segmentation": compressed(mask),
    }


def with_large_ids(truth: dict, results: list[dict], seed: int) -> tuple[dict, list[dict], dict[int, int]]:
    """The same with ids from 2^53 to 2^63 - 1, in the same order; and the old id of each category."""
    rng = np.random.default_rng(seed)

    def enlarged(ids: set[int]) -> dict[int, int]:
        steps = np.sort(rng.choice(2**40, len(ids) - 1, replace=False))
        larger = [2**53 + int(step) * 2**22 + int(step) % 7 for step in steps]
        return dict(zip(sorted(ids), [*larger, 2**63 - 1], strict=True))

    images = enlarged({one["id"] for one in truth["images"]})
    categories = enlarged({one["id"] for one in truth["categories"]})
    annotations = enlarged({one["id"] for one in truth["annotations"]})

    def of(entry: dict) -> dict:
        return {**entry, "image_id": images[entry["image_id"]], "category_id": categories[entry["category_id"]]}

    lists = ("neg_category_ids", "not_exhaustive_category_ids")
    larger = {
        "images": [
            {**one, "id": images[one["id"]], **{name: [categories[id] for id in one[name]] for name in lists}}
            for one in truth["images"]
        ],
        "categories": [{**one, "id": categories[one["id"]]} for one in truth["categories"]],
        "annotations": [{**of(one), "id": annotations[one["id"]]} for one in truth["annotations"]],
    }
    return larger, [of(one) for one in results], {large: small for small, large in categories.items()}


def perfect_results(truth: dict) -> list[dict]:
    """The objects themselves, crowds left out."""
    return [
        {
            "image_id": one["image_id"],
            "category_id": one["category_id"],
            "bbox": one["bbox"],
            "score": 1.0,
            "segmentation": compressed(plain.decode(one["segmentation"], HEIGHT, WIDTH)),
        }
        for one in truth["annotations"]
        if not one["iscrowd"]
    ]


def decoded(entries: Sequence[dict], kind: str = "segm") -> list[dict]:
    """Entries with their "mask" as an array; results also with their area."""
    found = []
    for entry in entries:
        mask = plain.decode(entry["segmentation"], HEIGHT, WIDTH)
        box = entry["bbox"]
        area = box[2] * box[3] if kind == "bbox" else float(mask.sum())
        found.append({"area": area, **entry, "mask": mask})
    return found


def write(folder: Path, name: str, document: object) -> Path:
    path = folder / name
    path.write_text(json.dumps(document))
    return path


def large(images: int, objects: int, detections: int, seed: int = 0) -> tuple[dict, list[dict]]:
    """A data set of COCO's size in 640 x 480: blobs of a dozen corners; half the detections are objects, a bit off."""
    rng = np.random.default_rng(seed)
    turns = np.linspace(0, 2 * np.pi, 12, endpoint=False)

    def shape(cx: float, cy: float, rx: float, ry: float) -> dict:
        radius = 1 + 0.2 * rng.standard_normal(12)
        xs, ys = (cx + rx * radius * np.cos(turns)).clip(0, 640), (cy + ry * radius * np.sin(turns)).clip(0, 480)
        (rle,) = coco_mask.frPyObjects([np.stack([xs, ys], 1).ravel().tolist()], 480, 640)
        mask = {"size": [480, 640], "counts": rle["counts"].decode()}
        return {"bbox": coco_mask.toBbox(rle).tolist(), "area": float(coco_mask.area(rle)), "segmentation": mask}

    def place() -> np.ndarray:
        return np.concatenate([rng.uniform(0, (640, 480)), np.exp(rng.uniform(1.5, 5, 2))])

    places = [place() for _ in range(objects)]
    where = rng.integers(1, images + 1, objects)
    classes = np.minimum(rng.geometric(0.08, objects), 80)
    annotations = [
        {"id": i + 1, "image_id": int(where[i]), "category_id": int(classes[i]), "iscrowd": int(i % 100 == 0)}
        | shape(*places[i])
        for i in range(objects)
    ]
    results = []
    for i in range(detections):
        of = int(rng.integers(objects))
        near = i % 2 == 0
        spot = places[of] * np.exp(0.1 * rng.standard_normal(4)) if near else place()
        image, category = (where[of], classes[of]) if near else (rng.integers(1, images + 1), rng.integers(1, 81))
        results.append(
            {"image_id": int(image), "category_id": int(category), "score": float(rng.random())} | shape(*spot)
        )
    listed = [{"id": i, "width": 640, "height": 480, "file_name": f"{i:012d}.jpg"} for i in range(1, images + 1)]
    names = [{"id": i, "name": f"class {i}"} for i in range(1, 81)]
    return {"images": listed, "annotations": annotations, "categories": names}, results


def score(folder: Path) -> dict:
    return json.loads((folder / "scores.json").read_text())


def best(answer: Prediction) -> np.ndarray:
    return answer.masks[0, answer.predicted_iou[0].argmax()]


def load_image(data: Path, name: str) -> Image:
    return Image(name, np.asarray(Pil.open(data / "images" / name).convert("RGB")))
