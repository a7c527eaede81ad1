"""The device a model runs on, and the precision it computes in there."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipelines.errors import UsageError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str) -> str:
    """`name` itself, or for "auto" the first CUDA device where there is one, else the CPU."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(name: str) -> torch.device:
    """The torch device called `name`. Raises UsageError when it cannot be used here."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # "meta" makes tensors, but ones without numbers
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"device {name!r} cannot be used here ({reason}); `evsam doctor` lists those that can"
        ) from error
    return device


def check_precision(name: str, device: torch.device, allowed: Sequence[str] = tuple(PRECISIONS)) -> torch.dtype:
    """The dtype called `name`. Raises UsageError when it is not allowed or `device` has no such arithmetic."""
    if name not in allowed:
        raise UsageError(f"unknown precision {name!r}; choose one of: {', '.join(allowed)}")
    if name == "bf16" and not bf16_supported(device):
        raise UsageError(f"{device} has no bf16 arithmetic: use --precision fp32")
    return PRECISIONS[name]


def send(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`x` on the device; a GPU gets it in its turn, while the caller goes on."""
    return x.to(device, non_blocking=device.type == "cuda")


def bf16_supported(device: torch.device) -> bool:
    """Whether bfloat16 is native on the device (AVX512-BF16 / AMX on x86 CPUs, Ampere or later on NVIDIA)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return False
