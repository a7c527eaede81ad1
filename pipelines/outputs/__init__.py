"""What a run can write. A row is one file of this folder; outputs alone know file formats.

An output is made once per run. `write` puts down one image's own files, before the journal says the image is
finished, and `remove` takes them away; `finish` puts down the files of the whole run, streaming the records in source
order. Both write through `pipelines.files.replacing`, so that writing again gives the same bytes and a kill leaves no
half file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal, TextIO, get_args

from pipelines.errors import UsageError
from pipelines.files import replacing
from pipelines.outputs.folder import image_files
from pipelines.registry import Registry, Row

if TYPE_CHECKING:
    from pipelines.records import Record
    from pipelines.types import Category, Image, Instances


@dataclass(frozen=True)
class Destination:
    """Where outputs go. folder: the run's output folder; scratch: its folder for temporary files. stems: by name of
    image, what its files are called before their extension; by default its name. locations: by name of image, the path
    of its file, if it is one. model: what found the instances.
    """

    folder: Path
    scratch: Path
    categories: Mapping[int, Category]
    stems: Mapping[str, str] = field(default_factory=dict)
    locations: Mapping[str, str] = field(default_factory=dict)
    model: str = "evsam"

    def path(self, *parts: str) -> Path:
        """A path inside `folder`. parts may hold images' stems (relative POSIX paths, already made safe)."""
        return self.folder.joinpath(*parts)

    def stem(self, name: str) -> str:
        """What the files of the image of that name are called: a relative POSIX path without extension."""
        return self.stems.get(name, name)

    @contextmanager
    def opened(self, *parts: str) -> Iterator[TextIO]:
        """A text file inside `folder` to be written anew, in UTF-8; it is put in place when the block ends well."""
        with (
            replacing(self.path(*parts), self.scratch) as temporary,
            temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
        ):
            yield file


@dataclass(frozen=True)
class Output:
    """One kind of file. Made as `Output(destination)`; inherit it and override what applies, the rest does nothing."""

    of_image: ClassVar[tuple[str, ...]] = ()
    """Those of one image, `{}` standing for its stem: a file, or a folder and a pattern of the files in it."""
    perhaps: ClassVar[tuple[str, ...]] = ()
    """Of these, those that not every image has."""

    destination: Destination

    def remove(self, name: str) -> None:
        """Delete what was written of an image, by this run or an earlier one, and folders that this leaves empty."""
        folder = self.destination.folder
        for path in self.own_files(name):
            path.unlink()
            for parent in takewhile(lambda parent: parent != folder, path.parents):
                try:
                    parent.rmdir()
                except OSError:  # something else is in it
                    break

    def own_files(self, name: str) -> list[Path]:
        """What lies there of an image's own files."""
        return list(image_files(self.destination.folder, self.of_image, self.destination.stem(name)))

    def write(self, image: Image, instances: Instances) -> None:
        """Write this image's own files."""

    def finish(self, records: Callable[[], Iterable[Record]]) -> None:
        """Write the run's files. records: call it to stream all records, in source order, as often as needed."""

    def notes(self, records: Callable[[], Iterable[Record]]) -> Iterable[str]:
        """What the user should know of what was written, such as what had no place in it; called after `finish`."""
        return ()


Needs = Literal["boxes", "masks", "edges"]
"""What of an image's instances a kind is made of. Masks come with boxes, edges with both."""

_GIVEN: Mapping[Needs, str] = {
    "boxes": "`evsam detect` finds only boxes",
    "masks": "only `evsam everything --prompts edges` finds them",
}


@dataclass(frozen=True)
class OutputRow(Row):
    """A kind of output. needs: what it is made of; files: the files and folders in the run's folder that it writes, and
    nobody else. pixels: whether it shows the image. labels: the row of `LABELS` that reads the first of its files.
    takes: options of the command line, and the fields of the class that they fill.
    """

    needs: Needs = "masks"
    files: tuple[str, ...] = ()
    pixels: bool = False
    labels: str | None = None
    takes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


PANOPTIC_MIN_AREA = 100
"""Holes and islands of fewer pixels go where masks are flattened, unless told otherwise."""

OUTPUTS = Registry(
    "output",
    [
        OutputRow(
            "coco",
            "pipelines.outputs.coco:Results",
            "COCO results list with RLE masks: coco_results.json",
            files=("coco_results.json",),
            labels="coco-results",
        ),
        OutputRow(
            "boxes",
            "pipelines.outputs.coco:Boxes",
            "COCO results list of the boxes, for --boxes: coco_boxes.json",
            needs="boxes",
            files=("coco_boxes.json",),
            labels="coco-results",
        ),
        OutputRow(
            "dataset",
            "pipelines.outputs.coco:Dataset",
            "COCO data set, holes and parts kept: coco_dataset.json",
            needs="boxes",
            files=("coco_dataset.json", *(f"coco_dataset_{part}.json" for part in ("train", "val", "test"))),
            labels="coco",
            takes={"--split": "split", "--coco-polygons": "polygons"},
        ),
        OutputRow(
            "yolo",
            "pipelines.outputs.yolo:Yolo",
            "data set for `yolo segment train`, an object's holes and parts in one polygon: yolo/",
            needs="boxes",
            files=("yolo",),
            labels="yolo",
            takes={"--split": "split", "--yolo-boxes": "boxes", "--yolo-images": "images"},
        ),
        OutputRow(
            "labelme",
            "pipelines.outputs.labelme:Labelme",
            "LabelMe's JSON per image, parts of an object as polygons of one group: labelme/",
            needs="boxes",
            files=("labelme",),
            labels="labelme",
            takes={"--labelme-masks": "masks"},
        ),
        OutputRow(
            "cvat",
            "pipelines.outputs.cvat:Cvat",
            "CVAT for images 1.1, exact masks: cvat.xml",
            needs="boxes",
            files=("cvat.xml",),
            labels="cvat",
        ),
        OutputRow(
            "label-studio",
            "pipelines.outputs.label_studio:LabelStudio",
            "Label Studio's tasks with predictions, exact masks as brushes: label_studio/",
            needs="boxes",
            files=("label_studio",),
            labels="label-studio",
            takes={"--image-root": "image_root"},
        ),
        OutputRow(
            "voc",
            "pipelines.outputs.voc:Voc",
            "Pascal VOC's XML, and PNGs of classes and objects, which lose what others cover: voc/",
            needs="boxes",
            files=("voc",),
            labels="voc",
            takes={"--split": "split"},
        ),
        OutputRow(
            "csv",
            "pipelines.outputs.table:Csv",
            "a row per object, masks as RLE; no row for images without: instances.csv",
            needs="boxes",
            files=("instances.csv",),
            labels="csv",
        ),
        OutputRow(
            "parquet",
            "pipelines.outputs.parquet:Parquet",
            "the same for pandas, DuckDB and datasets: instances.parquet",
            extra="parquet",
            needs="boxes",
            files=("instances.parquet",),
            labels="parquet",
        ),
        OutputRow(
            "geojson",
            "pipelines.outputs.geojson:GeoJson",
            "GeoJSON per image in its pixels, exact polygons with holes: geojson/",
            needs="boxes",
            files=("geojson",),
        ),
        OutputRow(
            "ids",
            "pipelines.outputs.png:InstanceIds",
            "PNG of instance ids per image, coloured by a palette, 16-bit above 255: ids/",
            files=("ids",),
        ),
        OutputRow(
            "objects",
            "pipelines.outputs.png:Objects",
            "one black-and-white PNG per object: objects/",
            files=("objects",),
        ),
        OutputRow(
            "overlay",
            "pipelines.outputs.overlay:Overlay",
            "the picture with coloured masks and boxes: overlays/",
            needs="boxes",
            files=("overlays",),
            pixels=True,
        ),
        OutputRow(
            "cutouts",
            "pipelines.outputs.png:Cutouts",
            "RGBA cut-out of each object: cutouts/",
            files=("cutouts",),
            pixels=True,
        ),
        OutputRow(
            "panoptic",
            "pipelines.outputs.panoptic:Panoptic",
            "COCO panoptic, one id per pixel: panoptic/, panoptic.json",
            files=("panoptic", "panoptic.json"),
        ),
        OutputRow(
            "amg",
            "pipelines.outputs.amg:Pictures",
            "segment-anything's amg.py, PNG and metadata.csv: amg/",
            files=("amg",),
        ),
        OutputRow(
            "amg-rle",
            "pipelines.outputs.amg:Rles",
            "segment-anything's amg.py --convert-to-rle: amg_rle/",
            files=("amg_rle",),
        ),
        OutputRow("sa1b", "pipelines.outputs.amg:Sa1b", "JSON per image as in SA-1B: sa1b/", files=("sa1b",)),
        OutputRow(
            "edges",
            "pipelines.outputs.edges:Edges",
            "edge map, by evsam everything --prompts edges alone: edges/",
            needs="edges",
            files=("edges",),
        ),
        OutputRow(
            "jsonl",
            "pipelines.outputs.jsonl:Records",
            "one JSON record per image: records.jsonl",
            needs="boxes",
            files=("records.jsonl",),
            labels="jsonl",
        ),
    ],
)


def outputs_of(gives: Needs) -> list[str]:
    """Names of the kinds that can be made of what a job gives."""
    order = get_args(Needs)
    return [row.name for row in OUTPUTS.values() if order.index(row.needs) <= order.index(gives)]


def check_needs(names: Iterable[str], gives: Needs) -> None:
    """Raise UsageError when one of these outputs is made of more than a job gives, SetupError when one needs a package
    that is not installed."""
    fitting = outputs_of(gives)
    for row in (OUTPUTS[name] for name in names):
        row.load()
        if row.name not in fitting:
            raise UsageError(f"{row.name!r} needs {row.needs}, and {_GIVEN[gives]}; choose from: {', '.join(fitting)}")


def remove_outputs(folder: Path, names: Iterable[str]) -> None:
    """Delete what an earlier run wrote into `folder` for these outputs. Raises OSError."""
    for file in files_of(folder, names):
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)


def files_of(folder: Path, names: Iterable[str]) -> list[Path]:
    """Every file and folder that these outputs write into `folder`."""
    return [folder / file for name in names for file in OUTPUTS[name].files]
