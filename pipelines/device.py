"""The device a model runs on."""

from __future__ import annotations

import torch

from pipelines.errors import UsageError


def pick_device(name: str) -> str:
    """`name` itself, or for "auto" the first CUDA device where there is one, else the CPU."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(name: str) -> torch.device:
    """The torch device called `name`. Raises UsageError when it cannot be used here."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"device {name!r} cannot be used here ({reason}); `evsam doctor` lists those that can"
        ) from error
    return device
