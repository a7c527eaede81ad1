"""What the tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.training_photos import write_photos


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, photographs: list[Path]) -> Path:
    """A data set to read from: eight photographs with two objects each."""
    return write_photos(tmp_path_factory.mktemp("data") / "photos", photographs)
