"""What the numbers of a configuration may be: each ends, on both sides, before what overflows or is absurd."""

from __future__ import annotations

import math
from typing import NamedTuple

from pipelines.errors import UsageError
from pipelines.printable import brief


class Limits(NamedTuple):
    """What a number may be; one of limits that are whole is whole."""

    least: float
    most: float
    words: str


LARGE = 2**31 - 1
EXACT = 2**53
COUNT = Limits(1, LARGE, f"at least 1 and at most {LARGE}")
TIMES = Limits(0, LARGE, f"at least 0 and at most {LARGE}")
PIXELS = Limits(1, EXACT, f"at least 1 and at most {EXACT}")
MANY = Limits(1, 100_000, "at least 1 and at most 100000")
NONE_OR_MANY = Limits(0, 100_000, "from 0 to 100000")
DRAWS = Limits(1, 10**6, "from 1 to 1000000")
FEW = Limits(1, 1024, "from 1 to 1024")
AMOUNT = Limits(0, 1e9, "at least 0 and at most 1e9")
POSITIVE = Limits(math.ulp(0), 1e9, "above 0 and at most 1e9")
FACTOR = Limits(1e-3, 1e3, "from 0.001 to 1000")
SHARE = Limits(0.0, 1.0, "from 0 to 1")
MARGIN = Limits(0.0, 1000.0, "from 0 to 1000")
LOGIT = Limits(-1e6, 1e6, "from -1e6 to 1e6")
SIDE = Limits(32, 2**14, f"at least 32 and at most {2**14}")
WORKERS = Limits(0, 1024, "from 0 to 1024")
SEED = Limits(0, 2**32 - 2, f"from 0 to {2**32 - 2}")


def keep_within(config: object, **limits: Limits) -> None:
    """Raise UsageError for a field of `config`, by name, whose number is outside of its limits."""
    for name, (least, most, words) in limits.items():
        value = getattr(config, name)
        if value is not None and not least <= value <= most:
            shown = f"{value:g}" if isinstance(value, float) else brief(value)
            raise UsageError(f"{name} is {shown}, but must be {words}")
