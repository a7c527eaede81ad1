"""Make `tests/data/tensorrt.json`, what the bindings of TensorRT offer.

python tests/support/make_tensorrt.py WHEEL...

WHEEL: a wheel of tensorrt_cu12_bindings for this Python, as `pip download --no-deps tensorrt_cu12_bindings==11.4.0.106`
brings it. The bindings are real; the libraries behind them come from NVIDIA's own index and are not needed to read
signatures: libraries with the same names, whose functions do nothing, stand in for them (gcc and nm make them).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
CLASSES = (
    "Builder",
    "BuilderFlag",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "ITensor",
    "ITimingCache",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "Runtime",
    "TensorIOMode",
)
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
READ = """
import json, sys
import tensorrt_bindings as trt

def signatures(member):
    text = (member.fget if isinstance(member, property) else member).__doc__ or ""
    lines = text.replace("tensorrt_bindings.tensorrt.", "").splitlines()
    return [line.split(". ", 1)[-1] for line in lines if "(self: " in line or "(arg0: " in line]

print(json.dumps({name: {key: signatures(value) for key, value in vars(getattr(trt, name)).items()
                         if key == "__init__" or not key.startswith("_")} for name in sys.argv[1:]}))
"""


def listing(wheel: Path) -> dict[str, dict[str, list[str]]]:
    """Class -> member -> its signatures; none for a constant."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        zipfile.ZipFile(wheel).extractall(folder)
        bindings = folder / "tensorrt_bindings/tensorrt.so"
        symbols = subprocess.run(["nm", "-D", "--undefined-only", bindings], capture_output=True, text=True, check=True)
        wanted = re.findall(r" U ((?:create|get|init)\w+)$", symbols.stdout, re.MULTILINE)
        source = folder / "nothing.c"
        source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in wanted))
        major = wheel.name.split("-")[1].split(".")[0]
        for library in LIBRARIES:
            target = folder / f"lib{library}.so.{major}"
            subprocess.run(["gcc", "-shared", "-fPIC", source, "-o", target, f"-Wl,-soname,{target.name}"], check=True)
        where = {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(folder)}
        done = subprocess.run(
            [sys.executable, "-c", READ, *CLASSES], env=os.environ | where, capture_output=True, text=True, check=True
        )
        found: dict[str, dict[str, list[str]]] = json.loads(done.stdout)
        return found


def main() -> None:
    listings = {Path(wheel).name.split("-")[1]: listing(Path(wheel)) for wheel in sys.argv[1:]}
    (DATA / "tensorrt.json").write_text(json.dumps(listings, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
