"""`make demo`: the main job on the two photographs that ultralytics ships, with the bundled weights, offline."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from evsam_cli import say
from evsam_cli.__main__ import main

OUTPUT = Path("demo")


def demo() -> None:
    """Run `evsam segment` on the photographs and say where the pictures are."""
    package = find_spec("ultralytics")
    assert package is not None and package.origin is not None
    photographs = sorted(str(path) for path in Path(package.origin).parent.glob("assets/*.jpg"))
    sys.argv = [
        "evsam",
        "segment",
        *photographs,
        "-o",
        str(OUTPUT),
        "--offline",
        "--overwrite",
    ]
    sys.argv += ["--save", "coco,dataset,ids,objects,overlay,cutouts,jsonl"]
    say.result(" ".join(sys.argv))
    try:
        main()
    finally:
        say.result(f"Pictures: {OUTPUT}/overlays. Cut-outs: {OUTPUT}/cutouts. COCO: {OUTPUT}/coco_results.json")


if __name__ == "__main__":
    demo()
