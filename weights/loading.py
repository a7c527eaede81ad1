"""State dicts from files that strangers made: nothing in them is run, every key and shape is checked."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from pipelines.errors import WeightsError

WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts put the state dict, among other things."""


def _load_pickle(path: Path) -> Any:
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"  # torch.save since 1.6; before, a bare pickle
    if zipped:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise WeightsError(f"{path} is compressed inside, as torch.save never writes: it is refused")
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": load_file,
    ".pt": _load_pickle,
    ".pth": _load_pickle,
}


def load_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors, .pt or .pth file, on the CPU, mapped from disk where its format allows.

    Raises WeightsError for a file that is missing, truncated or damaged, compressed inside, or that holds
    anything but a state dict.
    """
    if path.suffix.lower() not in READERS:
        raise WeightsError(f"{path} is no weights file: its name must end in {', '.join(READERS)}")
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")
    try:
        content = READERS[path.suffix.lower()](path)
    except WeightsError:
        raise
    except Exception as error:  # parsers of hostile bytes fail in every way there is
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path} is damaged, or holds more than tensors: {reason}") from error
    return _tensors(path, content)


def check_state_dict(state: Mapping[str, torch.Tensor], expected: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Raise WeightsError unless `state` has exactly the keys and shapes that the model `name` expects."""
    faults = {
        "missing": [key for key in expected if key not in state],
        "unexpected": [key for key in state if key not in expected],
        "misshapen": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(shape)}"
            for key, shape in expected.items()
            if key in state and tuple(state[key].shape) != tuple(shape)
        ],
    }
    if any(faults.values()):
        listed = "; ".join(f"{len(keys)} {kind}: {_few(keys)}" for kind, keys in faults.items() if keys)
        raise WeightsError(f"these are not weights of {name}: {listed}")


def _tensors(path: Path, content: Any) -> dict[str, torch.Tensor]:
    if isinstance(content, Mapping):
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path} holds no state dict, but {type(content).__name__}")
    strange = [str(key) for key, value in content.items() if not isinstance(key, str) or not _is_plain(value)]
    if strange:
        raise WeightsError(f"{path} holds no state dict: not tensors are {_few(strange)}")
    return dict(content)


def _is_plain(value: Any) -> bool:
    """Whether `value` is a tensor with numbers in it (a file can also describe sparse or empty `meta` ones)."""
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def _few(items: list[str]) -> str:
    return ", ".join(items[:5]) + (", ..." if len(items) > 5 else "")
