"""What the tests share: no network, a cache of their own, and the photographs that ultralytics ships."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil

os.environ["EVSAM_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVSAM_HOME", str(tmp_path_factory.getbasetemp() / "home"))


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """bus.jpg (810 x 1080) and zidane.jpg (1280 x 720)."""
    package = find_spec("ultralytics")
    assert package is not None and package.origin is not None
    return sorted(Path(package.origin).parent.glob("assets/*.jpg"))


@pytest.fixture(scope="session")
def photograph(photographs: list[Path]) -> np.ndarray:
    """A 640 x 480 cut of the street scene, RGB uint8."""
    return np.asarray(Pil.open(photographs[0]).convert("RGB").resize((640, 853))).copy()[200:680]
