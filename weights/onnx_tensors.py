"""The tensors that an ONNX file holds, as numbers alone: nothing in it is run."""

from __future__ import annotations

from pathlib import Path

import torch

from pipelines.errors import SetupError, WeightsError


def load_onnx(path: Path) -> dict[str, torch.Tensor]:
    """Name -> tensor of all initialisers that the graph uses, in the order in which it first does.

    Raises WeightsError for a file that is damaged or has tensors in other files, SetupError without the package onnx.
    """
    try:
        import onnx
        from onnx.external_data_helper import uses_external_data
    except ModuleNotFoundError as error:
        raise SetupError(
            f"reading {path} needs the package onnx: install it with `pip install 'evsam[export]'`"
        ) from error
    try:
        graph = onnx.load(path, load_external_data=False).graph
        held = {tensor.name: tensor for tensor in graph.initializer}
        used = dict.fromkeys(name for node in graph.node for name in node.input if name in held)
        outside = any(uses_external_data(held[name]) for name in used)
        found = {name: torch.tensor(onnx.numpy_helper.to_array(held[name])) for name in used if not outside}
    except Exception as error:  # parsers of hostile bytes fail in every way there is
        raise WeightsError(f"{path} is damaged, or no ONNX file") from error
    if outside:
        raise WeightsError(f"{path} keeps its weights in other files: join them into one")
    return found
