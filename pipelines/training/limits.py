"""What the numbers of a training run's configuration may be."""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

from pipelines.errors import UsageError


class Limits(NamedTuple):
    """What a number may be."""

    least: float
    most: float
    words: str


COUNT = Limits(1, sys.float_info.max, "at least 1")
AMOUNT = Limits(0, sys.float_info.max, "at least 0")
POSITIVE = Limits(math.ulp(0), sys.float_info.max, "above 0")
SHARE = Limits(0, 1, "from 0 to 1")
SIDE = Limits(32, sys.float_info.max, "at least 32")


def keep_within(config: object, **limits: Limits) -> None:
    """Raise UsageError for a field of `config`, by name, whose number is outside of its limits."""
    for name, (least, most, words) in limits.items():
        value = getattr(config, name)
        if value is not None and not least <= value <= most:
            raise UsageError(f"{name} is {value:g}, but must be {words}")
