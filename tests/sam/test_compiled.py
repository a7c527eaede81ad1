"""The compiled back end: the shapes it makes up change no mask, and a machine without a compiler is told so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.families import FAMILIES, row
from support.seeded import weights_for

from pipelines.errors import SetupError, UsageError
from pipelines.sam import SAMS, build_sam, chunks, compiled, graphs
from pipelines.sam.chunks import IMAGES, PROMPTS
from pipelines.sam.encoded import Encoded
from pipelines.sam.model import Sam
from pipelines.sam.network import SamSource
from pipelines.sam.predictor import SamPredictor
from pipelines.sam.prompting import PixelPrompts
from pipelines.sam.torch_network import TorchBackend

STARTER = "evsam-starter"
CLICKS = PixelPrompts(points=np.array([[[200, 150], [300, 200]]]), labels=np.array([[1, 0]]))


def boxes(count: int) -> np.ndarray:
    corners = np.sort(np.random.default_rng(count).uniform(0, 480, (count, 2, 2)), 1)
    return corners.reshape(-1, 4)


def encoded(sam: SamPredictor, photograph: np.ndarray, count: int) -> Encoded:
    return sam.encode([sam.prepare(photograph[i:]) for i in range(count)])


def assert_same(eager: SamPredictor, ours: SamPredictor, photograph: np.ndarray, counts: list[int]) -> None:
    asked = [PixelPrompts(boxes=boxes(count)) for count in counts]
    wanted, got = (encoded(sam, photograph, len(counts)) for sam in (eager, ours))
    error = (got.embeddings - wanted.embeddings).norm() / wanted.embeddings.norm()
    assert got.embeddings.shape == wanted.embeddings.shape and error < 1e-4
    for a, b in zip(got.segment(asked), wanted.segment(asked), strict=True):
        assert a.low_res.shape == b.low_res.shape and a.predicted_iou.shape == b.predicted_iou.shape
        if len(b.low_res):
            assert (a.low_res - b.low_res).norm() / b.low_res.norm() < 1e-4
            torch.testing.assert_close(a.predicted_iou, b.predicted_iou, rtol=1e-4, atol=1e-5)


@given(st.integers(1, 1000))
def test_parts_of_a_batch_are_few_sizes(count: int) -> None:
    sizes = compiled.powers_of_two(count)
    assert sum(sizes) == count and sorted(set(sizes), reverse=True) == sizes
    assert all(size & (size - 1) == 0 for size in sizes)


def test_filled_up_shapes_give_the_same_masks(photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(IMAGES.most, "cpu", 16)
    monkeypatch.setitem(PROMPTS.most, "cpu", 16)
    seen: list[tuple[int, ...]] = []

    def watched(function: object, device: torch.device) -> object:
        def run(*inputs: torch.Tensor) -> object:
            seen.append(tuple(len(x) for x in inputs if isinstance(x, torch.Tensor)))
            return function(*inputs)

        return run

    monkeypatch.setattr(compiled, "_compiled", watched)
    eager = build_sam(STARTER)
    ours = SamPredictor(STARTER, compiled.CompiledNetwork(eager.model, torch.device("cpu")))
    assert_same(eager, ours, photograph, [2, 0, 5])
    assert [shape for shape in seen if len(shape) == 1][:2] == [(2,), (1,)]  # the encoder: 3 images
    assert (16, 16, 16) in seen  # the decoder: 7 prompts of several images
    seen.clear()
    wanted, got = (encoded(sam, photograph, 1).segment([CLICKS])[0] for sam in (eager, ours))
    torch.testing.assert_close(got.low_res, wanted.low_res, rtol=1e-4, atol=1e-3)
    assert (1, 1, 1) in seen


def test_little_memory_means_a_smaller_size_to_fill_up_to(
    photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROMPTS.most, "cpu", 64)
    monkeypatch.setattr(chunks, "free_bytes", lambda *_: 20 * PROMPTS.bytes)
    sizes: list[int] = []

    def watched(function: object, device: torch.device) -> object:
        def run(*inputs: object) -> object:
            if len(inputs) == 5:  # image, side, positions, sparse, index
                sizes.append(len(inputs[-1]))
            return function(*inputs)

        return run

    monkeypatch.setattr(compiled, "_compiled", watched)
    ours = SamPredictor(STARTER, compiled.CompiledNetwork(build_sam(STARTER).model, torch.device("cpu")))
    ours.set_image(photograph)
    assert len(ours.segment_boxes(boxes(30))) == 30
    assert sizes == [16, 16]


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_one_line_says_what_to_do() -> None:
    with pytest.raises(SetupError, match="install a C\\+\\+ compiler, or use --backend torch") as failure:
        build_sam(STARTER, backend="torch-compiled")
    assert "\n" not in str(failure.value)


class Tape:
    """A CUDA graph, as far as a CPU can play one: the function again, into where its results are."""

    def __init__(self) -> None:
        self.run = lambda: None

    def replay(self) -> None:
        self.run()


def test_graphs_read_each_calls_inputs(photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROMPTS.most, "cpu", 16)
    recorded: list[int] = []

    def record(self: graphs.Recorded, inputs: tuple[object, ...]) -> graphs.Recording:
        places = tuple(map(graphs.copied, inputs))
        outputs, tape = self._function(*places), Tape()

        def run() -> None:
            for place, x in zip(graphs.tensors_in(outputs), graphs.tensors_in(self._function(*places)), strict=True):
                place.copy_(x)

        tape.run = run
        recorded.append(len(next(graphs.tensors_in(inputs))))
        return graphs.Recording(tape, places, outputs)

    monkeypatch.setattr(graphs.Recorded, "record", record)
    eager = build_sam(STARTER)
    ours = SamPredictor(STARTER, graphs.GraphsNetwork(eager.model, torch.device("cpu")))
    assert_same(eager, ours, photograph, [2])
    seen = len(recorded)
    assert_same(eager, ours, photograph[::-1].copy(), [3])
    assert len(recorded) == seen


def test_graphs_need_cuda() -> None:
    with pytest.raises(UsageError, match="cpu has no CUDA graphs: use --backend torch"):
        build_sam(STARTER, backend="torch-graphs")


@pytest.mark.gpu
def test_recorded_masks_equal_eager_ones(photograph: np.ndarray) -> None:
    """Of the first images, which are recorded, and of others, for which the recordings are replayed."""
    eager, ours = (build_sam(STARTER, device="cuda", backend=name) for name in ("torch", "torch-graphs"))
    for picture in (photograph, photograph[::-1].copy()):
        for counts in ([2], [3, 0, 9], [70]):
            assert_same(eager, ours, picture, counts)


@pytest.mark.slow
@pytest.mark.parametrize("builder", [None, *FAMILIES])
def test_compiled_masks_equal_eager_ones(builder: Callable[[], Sam] | None, photograph: np.ndarray) -> None:
    source = SamSource(row(builder), weights_for(builder())) if builder else SamSource(SAMS[STARTER])
    sams = (
        SamPredictor(source.row.name, backend().build(source, device="cpu", precision="fp32"))
        for backend in (TorchBackend, compiled.CompiledBackend)
    )
    assert_same(*sams, photograph, [3])
