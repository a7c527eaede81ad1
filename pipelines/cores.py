"""How many processor cores this process may use, of those that the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS, MINE = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where Linux shows its control groups (version 2), and which of them this process is in."""


def usable(groups: Path = CGROUPS, mine: Path = MINE) -> int:
    """Those that the system lets it run on, or fewer where it is given less time than theirs, as containers are."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _quota(groups, mine) or cores)


def _quota(groups: Path, mine: Path) -> int | None:
    """Cores whose time the group of this process, and all groups that hold it, leave to it, rounded up; None: all.

    cpu.max holds microseconds of time in each period and the period's, or `max`.
    """
    quotas = []
    for group in _nested(groups, mine):
        try:
            time, period = (group / "cpu.max").read_text("ascii").split()
            quotas.append(max(1, math.ceil(int(time) / int(period))))
        except (OSError, ValueError, ZeroDivisionError):  # no such file, which the root lacks, or no limit
            continue
    return min(quotas, default=None)


def _nested(groups: Path, mine: Path) -> list[Path]:
    """The folder of the group of this process, and those around it."""
    try:
        lines = mine.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    folder = groups / own
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(groups))]
