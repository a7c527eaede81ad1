"""State dicts from files that strangers made: nothing in them is run, every key and shape is checked."""

from __future__ import annotations

import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipelines.errors import WeightsError
from weights.onnx_tensors import load_onnx

WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts put the state dict, among other things."""
MOST_UNPACKED = 1 << 30
"""Bytes that a checkpoint in a .zip may have."""
NUMBERS = frozenset(
    getattr(torch, name)
    for name in "float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 int64 int32 int16 int8 uint8 bool".split()
)
"""Of what weights are; a file can hold complex numbers and two in a byte as well."""


def load_pickle(path: Path) -> Any:
    """What torch.save wrote, on the CPU, mapped from disk where its format allows.

    Raises WeightsError for whatever else the file is; torch admits nothing but tensors and plain values.
    """
    return _unpickled(path)


def _unpickled(path: Path, content: BytesIO | None = None) -> Any:
    """See `load_pickle`. content: what is read in place of the file, from out of it."""
    try:
        mapped = False
        if content is None:
            with path.open("rb") as file:
                mapped = file.read(4) == b"PK\x03\x04"  # torch.save since 1.6; before, a bare pickle
        refuse_compressed(path, content)
        if content is not None:
            content.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that torch.save never wrote
            return torch.load(content or path, map_location="cpu", weights_only=True, mmap=mapped)
    except WeightsError:
        raise
    except Exception as error:  # parsers of hostile bytes fail in every way there is
        raise WeightsError(f"{path} {why_refused(error)}") from error


def refuse_compressed(path: Path, content: BytesIO | None = None) -> None:
    """Raise WeightsError for an archive that is compressed: it may unpack to any size, and torch.save writes none.

    content: what is looked at in place of the file, from out of it.
    """
    try:
        if zipfile.is_zipfile(content or path):
            with zipfile.ZipFile(content or path) as archive:
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise WeightsError(f"{path} is compressed inside, as torch.save never writes: it is refused")
    except (zipfile.BadZipFile, NotImplementedError, ValueError, LookupError) as error:
        raise WeightsError(f"{path} is damaged: its list of contents cannot be read") from error


def why_refused(error: BaseException) -> str:
    """What torch's error says of a file, in our words: its own advise to read the file without the guard."""
    if isinstance(error, PermissionError):
        return "may not be read by this user"
    if foreign := re.search(r"GLOBAL (\S+)", f"{error} {error.__cause__}"):
        return (
            f"is damaged, or holds more than tensors: it asks to load {foreign[1]}, which could run code on this"
            " machine: get a file of tensors alone, such as a .safetensors"
        )
    return "is damaged, or holds more than tensors: get one that torch.save wrote, or a .safetensors"


def _load_zipped(path: Path) -> Any:
    """What the one checkpoint of torch.save in an archive holds, unpacked in memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry.filename for entry in archive.infolist() if Path(entry.filename).suffix in (".pt", ".pth")]
            own = [name for name in names if not name.startswith("__MACOSX/")]
            if len(own) != 1:
                raise WeightsError(f"{path} holds {len(own)} checkpoints, where one is expected: unpack it")
            with archive.open(own[0]) as file:
                content = BytesIO(file.read(MOST_UNPACKED + 1))
    except PermissionError as error:
        raise WeightsError(f"{path} {why_refused(error)}") from error
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        raise WeightsError(f"{path} is damaged: it cannot be unpacked") from error
    if len(content.getbuffer()) > MOST_UNPACKED:
        raise WeightsError(f"{path} unpacks to more than {MOST_UNPACKED >> 30} GiB: unpack it yourself")
    return _unpickled(path, content)


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except Exception as error:
        raise WeightsError(f"{path} {why_no_safetensors(error)}") from error


def why_no_safetensors(error: Exception) -> str:
    """What is wrong with a safetensors file, from what its library raised."""
    if isinstance(error, SafetensorError):
        reason = str(error).removeprefix("Error while deserializing header: ").partition(", expected one of")[0]
        return f"is damaged, or no safetensors file: {reason}"
    if isinstance(error, PermissionError):
        return "may not be read by this user"
    return "is damaged, or holds tensors of a kind that torch does not have"


READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": _load_safetensors,
    ".pt": load_pickle,
    ".pth": load_pickle,
    ".zip": _load_zipped,
    ".onnx": load_onnx,
}


def load_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors, .pt or .pth file, of the one in a .zip, or of an .onnx file in the order in which
    its graph uses them; on the CPU, mapped from disk where its format allows.

    Raises WeightsError for a file that is missing, truncated or damaged, a .pt compressed inside, or one that holds
    anything but a state dict.
    """
    if path.suffix.lower() not in READERS:
        raise WeightsError(f"{path} is no weights file: its name must end in {', '.join(READERS)}")
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")
    return as_state_dict(path, READERS[path.suffix.lower()](path))


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


def as_state_dict(path: Path, content: Any) -> dict[str, torch.Tensor]:
    """The state dict in what `path` holds, unwrapped; of several parts as one, each name after its part's: `part.name`.

    Raises WeightsError when there is none.
    """
    if isinstance(content, Mapping):
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
        if all(isinstance(part, Mapping) for part in content.values()):
            content = {f"{part}.{key}": x for part, inner in content.items() for key, x in inner.items()}
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path} holds no state dict, but {type(content).__name__}")
    strange = [str(key) for key, value in content.items() if not isinstance(key, str) or not _is_plain(value)]
    if strange:
        raise WeightsError(f"{path} holds no state dict: no tensors of numbers are {_few(strange)}")
    return dict(content)


def _is_plain(value: Any) -> bool:
    """Whether `value` is a tensor with numbers in it (a file can also describe sparse or empty `meta` ones)."""
    if not isinstance(value, torch.Tensor):
        return False
    return value.layout == torch.strided and value.device.type == "cpu" and value.dtype in NUMBERS


def _few(items: list[str]) -> str:
    return ", ".join(items[:5]) + (", ..." if len(items) > 5 else "")
