"""What the tests of segmenting everything share."""

from __future__ import annotations

import numpy as np
import pytest
from support.everything_scene import scene_of

from pipelines.types import Image


@pytest.fixture(scope="session")
def scene(photograph: np.ndarray) -> Image:
    return scene_of(photograph)
