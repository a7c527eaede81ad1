"""`make demo`: the main job on the two photographs that ultralytics ships, with the bundled weights, offline."""

from __future__ import annotations

import sys
from pathlib import Path

from evsam_cli import say
from evsam_cli.__main__ import main
from pipelines.images import sample_photos

OUTPUT = Path("demo")


def demo() -> None:
    """Run `evsam segment` on the photographs and say where the pictures are."""
    sys.argv = ["evsam", "segment", *map(str, sample_photos()), "-o", str(OUTPUT), "--offline", "--overwrite"]
    sys.argv += ["--save", "coco,dataset,ids,objects,overlay,cutouts,jsonl"]
    say.result(" ".join(sys.argv))
    try:
        main()
    finally:
        say.result(f"Pictures: {OUTPUT}/overlays. Cut-outs: {OUTPUT}/cutouts. COCO: {OUTPUT}/coco_results.json")


if __name__ == "__main__":
    demo()
