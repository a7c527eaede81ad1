"""Crops that stand for a part of the network's input."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sam.prompt_encoder import PROMPT_SIDE, PromptEncoder
from pipelines.training.window import CELLS, Window, draw_window

ENCODER = PromptEncoder().requires_grad_(False)
POSITIONS = ENCODER.dense_pe(CELLS)


@given(side=st.integers(1, CELLS), seed=st.integers(0, 99), x=st.integers(0, CELLS - 1), y=st.integers(0, CELLS - 1))
def test_a_click_on_a_cell_has_the_cells_position(side: int, seed: int, x: int, y: int) -> None:
    """In the window's own coordinates as in the whole input's: what the decoder compares stays comparable."""
    x, y = x % side, y % side
    window = draw_window(side, torch.Generator().manual_seed(seed))
    positions = window.positions(POSITIONS)
    click = torch.tensor([x + 0.5, y + 0.5]) * PROMPT_SIDE / side - 0.5  # the cell's centre, in the crop's frame

    position = ENCODER.pe_layer((window.place(click) + 0.5) / PROMPT_SIDE)

    assert positions.shape == (side * side, 256)
    torch.testing.assert_close(position, positions[y * side + x], rtol=0, atol=1e-4)


def test_the_whole_input_is_a_window_that_changes_nothing() -> None:
    whole = draw_window(CELLS, torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0.0, 10.0, 500.0, 1023.0]])
    assert whole == Window()
    torch.testing.assert_close(whole.place(boxes), boxes)


def test_boxes_go_where_their_corners_go() -> None:
    window = Window(8, 24, 32)
    corners = torch.tensor([[100.0, 40.0], [300.0, 260.0]])
    torch.testing.assert_close(window.place(corners.reshape(1, 4)), window.place(corners).reshape(1, 4))
    assert window.place(torch.tensor([-0.5, -0.5])).tolist() == [8 * 16 - 0.5, 24 * 16 - 0.5]
