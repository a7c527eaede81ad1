"""Labels of other tools as data sets to train on."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil
from support.label_files import FILES, HEIGHT, HOLED, RING, SOLID, WIDTH, write_files

from pipelines.errors import DataError
from pipelines.training.config import DataConfig
from pipelines.training.distill import photo_paths
from pipelines.training.label_source import LabelSource
from pipelines.training.sources import open_source

FORMATS = [name for name in FILES if not name.startswith(("coco", "csv"))]


@pytest.mark.parametrize("format", FORMATS)
def test_labels_of_every_format_are_trained_on(tmp_path: Path, format: str) -> None:
    source = open_source(write_files(tmp_path, FILES[format]))
    assert isinstance(source, LabelSource) and len(source) == 1
    photo = source[0]
    (region,) = photo.regions
    assert source.categories[region.category_id] == "person"
    mask = photo.mask(region, *photo.pixels().shape[:2])
    np.testing.assert_array_equal(mask, RING if format in HOLED else SOLID)
    assert [*source.notes] == [f"left out of {source.name}: 1 object without a mask"]
    assert [path.name for path in photo_paths(DataConfig(str(tmp_path)))] == ["a.png"]


def test_a_file_of_labels_is_told_from_one_of_coco(tmp_path: Path) -> None:
    write_files(tmp_path, FILES["label-studio"] | FILES["coco"])
    assert isinstance(open_source(tmp_path / "export.json"), LabelSource)
    with pytest.raises(DataError, match=r"may be read as label-studio .* name a folder of one format"):
        open_source(tmp_path)


def test_photos_that_exif_turns_are_counted_upright(tmp_path: Path) -> None:
    """As the tools show them."""
    write_files(tmp_path, FILES["cvat"])
    exif = Pil.Exif()
    exif[0x0112] = 6
    Pil.new("RGB", (HEIGHT, WIDTH)).save(tmp_path / "photos/a.png", exif=exif)
    assert open_source(tmp_path)[0].pixels().shape == (HEIGHT, WIDTH, 3)


def test_photos_that_are_not_there_are_named(tmp_path: Path) -> None:
    write_files(tmp_path, FILES["voc"], photos=False)
    with pytest.raises(DataError, match=r"photos are not in .*: a.png; name their folder as `images`"):
        open_source(tmp_path)
    write_files(tmp_path / "far", {})
    assert len(open_source(tmp_path, tmp_path / "far/photos")) == 1
