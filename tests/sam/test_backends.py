"""What a back end must do, whatever it is; memory that runs out; half precision."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.runs import environment
from support.seeded import picture

from evsam_cli.options import models
from pipelines.errors import UsageError, WeightsError
from pipelines.memory import free_bytes, out_of_memory
from pipelines.sam import BACKENDS, SAMS, build_sam, torch_network
from pipelines.sam.chunks import PROMPTS, Chunks
from pipelines.sam.compiled import FILLED
from pipelines.sam.network import Prompts, SamSource
from pipelines.sam.predictor import SamPredictor
from pipelines.sam.torch_network import TorchBackend

STARTER = "evsam-starter"
CPU = torch.device("cpu")
BOXES = np.array([[40, 30, 260, 200], [200, 100, 390, 290], [5, 5, 60, 50], [0, 0, 400, 300], [90, 90, 140, 250]])


@pytest.fixture(autouse=True, scope="module")
def _little_to_collect() -> Iterator[None]:
    """What is there already need not be looked through each time that memory runs out."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "tensorrt"])
def test_every_back_end_builds_and_exports_as_its_row_says(name: str) -> None:
    backend = BACKENDS[name].load()()
    assert callable(backend.build) and name.startswith("torch") != callable(getattr(backend, "export", None))
    with pytest.raises(UsageError, match="precision"):
        build_sam(STARTER, backend=name, precision="fp3")


class Tight:
    """A network with room for `room` prompts at once; the rest is the real one's."""

    def __init__(self, sam: SamPredictor, room: int, error: Exception) -> None:
        self.network, self.room, self.error = sam.network, room, error
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.network, name)

    def images(self, features: tuple[torch.Tensor, ...]) -> object:
        images, tight = self.network.images(features), self

        class Images:
            def decode(self, prompts: Prompts) -> object:
                tight.sizes.append(len(prompts))
                if len(prompts) > tight.room:
                    raise tight.error
                return images.decode(prompts)

        return Images()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 99 bytes"),
    ],
)
def test_when_memory_runs_out_chunks_are_halved_and_masks_are_the_same(error: Exception) -> None:
    roomy = build_sam(STARTER)
    tight = Tight(roomy, 1, error)
    squeezed = SamPredictor(STARTER, tight)
    for sam in (roomy, squeezed):
        sam.set_image(picture())
    wanted, got = roomy.segment_boxes(BOXES), squeezed.segment_boxes(BOXES)
    assert tight.sizes == [4, 2, 1, 1, 1, 1, 1]
    assert got.rles == wanted.rles
    np.testing.assert_allclose(got.predicted_iou, wanted.predicted_iou, rtol=1e-5)
    squeezed.segment_boxes(BOXES[:2])
    assert tight.sizes[-2:] == [1, 1]  # what was too many is not tried again


def test_what_does_not_fit_at_all_and_other_faults_are_not_swallowed() -> None:
    sam = build_sam(STARTER)
    for error in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("shapes do not match")):
        tight = SamPredictor(STARTER, Tight(sam, 0, error))
        tight.set_image(picture())
        with pytest.raises(type(error), match=str(error)):
            tight.segment_boxes(BOXES)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on address space")
def test_the_allocator_s_own_message_is_recognised() -> None:
    code = (
        "import resource, torch\n"
        "from pipelines.memory import out_of_memory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))\n"
        "try: torch.empty(1 << 36)\n"
        "except Exception as error: print(out_of_memory(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.strip() == "True"
    assert not out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "MPS backend out of memory (MPS allocated: 11.20 GB, max allowed: 18.13 GB)",
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 99",
        "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory ; GPU=0",
        "TensorRT could not run it: Error Code 2: OutOfMemory (Requested size was 99 bytes.)",
    ],
)
def test_every_back_end_s_message_is_recognised(text: str) -> None:
    assert out_of_memory(RuntimeError(text))


def test_what_the_last_few_prompts_say_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer than a full chunk, they may have met another process's peak."""
    monkeypatch.setitem(PROMPTS.most, "cpu", 64)
    chunks, sizes, faults = Chunks(PROMPTS, CPU, max_memory=1 << 60), [], [None, torch.OutOfMemoryError()]

    def work(_: int, size: int) -> None:
        sizes.append(size)
        if faults and (fault := faults.pop(0)):
            raise fault

    list(chunks(65, work))
    list(chunks(65, work))
    assert sizes == [64, 1, 1, 64, 1]
    faults[:] = [torch.OutOfMemoryError()]
    list(chunks(65, work))
    list(chunks(40, work))
    assert sizes[5:] == [64, 32, 32, 1, 32, 8]


def test_few_prompts_that_were_too_many_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROMPTS.most, "cpu", 64)
    chunks, sizes = Chunks(PROMPTS, CPU, max_memory=1 << 60), []

    def work(_: int, size: int) -> None:
        sizes.append(size)
        if size > 10:
            raise torch.OutOfMemoryError

    for _ in range(2):
        list(chunks(20, work))
    assert sizes == [20, 10, 10, 10, 10]


@given(st.integers(1, 200), st.integers(0, 70), st.integers(1, 70))
def test_chunks_are_of_sizes_that_they_are_filled_up_to(count: int, room: int, fits: int) -> None:
    chunks = Chunks(PROMPTS, CPU, sizes=FILLED)
    chunks.most = max(room, 1)
    filled: list[int] = []

    def work(_: int, size: int) -> None:
        filled.append(next(each for each in FILLED if each >= size))
        if filled[-1] > fits:
            raise torch.OutOfMemoryError

    list(chunks(count, work))
    assert max(filled) <= chunks.most or filled[0] > fits


def test_fp32_on_a_gpu_is_not_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_network, "check_device", torch.device)
    for precision, device, tf32 in (("fp32", "cpu", True), ("fp16", "cuda", True), ("fp32", "cuda", False)):
        with torch.backends.cudnn.flags(allow_tf32=True):
            with pytest.raises(WeightsError):
                TorchBackend().build(SamSource(SAMS[STARTER], Path("none.pt")), device=device, precision=precision)
            assert torch.backends.cudnn.allow_tf32 == tf32


@given(st.integers(0, 200), st.integers(1, 70), st.integers(1, 70))
def test_chunks_cover_every_prompt_once_in_order(count: int, room: int, at_once: int) -> None:
    chunks = Chunks(PROMPTS, CPU)
    chunks.most = 64
    seen: list[int] = []

    def work(start: int, size: int) -> None:
        if size > room:
            raise torch.OutOfMemoryError
        assert 0 < size <= min(at_once, 64)
        seen.extend(range(start, start + size))

    list(chunks(count, work, at_once))
    assert seen == list(range(count))


def test_max_memory_makes_chunks_smaller() -> None:
    held = 1 << 62
    assert free_bytes(CPU, None) > 0 > free_bytes(CPU, 1 << 20)
    assert free_bytes(CPU, held) == pytest.approx(free_bytes(CPU, None), rel=0.5)
    sizes: list[int] = []
    list(Chunks(PROMPTS, CPU, max_memory=PROMPTS.bytes)(3, lambda _, size: sizes.append(size)))
    assert sizes == [1, 1, 1]
    assert models.size("512MB") == 512 << 20 and models.size("1.5g") == 3 << 29 and models.size(None) is None
    for text in ("much", "4", "-1GB", "4GBs"):
        with pytest.raises(UsageError, match="is no amount of memory"):
            models.size(text)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_masks_follow_fp32(precision: str, photograph: np.ndarray) -> None:
    boxes = BOXES * [1.6, 1.6, 1.6, 1.6]
    masks = []
    for sam in (build_sam(STARTER), build_sam(STARTER, precision=precision)):
        sam.set_image(photograph)
        masks.append(sam.predict(boxes=boxes, multimask_output=False).masks)
    a, b = masks
    assert ((a & b).sum((1, 2, 3)) / (a | b).sum((1, 2, 3))).mean() > 0.98
