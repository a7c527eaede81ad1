"""What memory a device has left, and how its end is told."""

from __future__ import annotations

import gc

import torch

OUT_OF_MEMORY = (
    "can't allocate memory",  # torch on a CPU
    "CUDA error: out of memory",  # CUDA beside torch's allocator
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
    "Failed to allocate ",  # ONNX Runtime, OpenVINO
    "CUDA failure 2: out of memory",  # ONNX Runtime
    "Cuda Runtime (out of memory)",  # TensorRT
    "OutOfMemory (Requested size was",  # TensorRT
)
"""What is said, by whoever runs a network, when memory runs out."""


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(each in text for each in OUT_OF_MEMORY)


def release(device: torch.device) -> None:
    """Give back what is held for nothing."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def free_bytes(device: torch.device, max_memory: int | None) -> int:
    """Bytes that work on the device may still take."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_allocated(device)
        free += torch.cuda.memory_reserved(device) - held
    else:
        import psutil

        free, held = psutil.virtual_memory().available, psutil.Process().memory_info().rss
    return free if max_memory is None else min(free, max_memory - held)
