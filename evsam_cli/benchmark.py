"""`evsam benchmark`: what does a SAM cost here?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from evsam_cli import progress, say
from evsam_cli.commands import completing
from evsam_cli.options import choices, listed, numbers, option, path, split
from evsam_cli.options.models import PRECISIONS, Device, Offline
from evsam_cli.options.runs import Output, Quiet
from evsam_cli.results import print_table
from pipelines.benchmark.config import BenchmarkConfig
from pipelines.errors import UsageError
from pipelines.limits import COUNT, NONE_OR_MANY
from pipelines.sam import BACKENDS, SAMS

WHAT, HOW = "What is measured", "How it is measured"


EXAMPLES = """
# The bundled SAM
evsam benchmark -o speed

# Two SAMs, in bf16
evsam benchmark efficientvit-sam-l0 sam-vit-h -o speed --precision bf16

# Without weights: networks are as fast with any
evsam benchmark efficientvit-sam-l0 sam-vit-h -o speed --random-weights

# All SAMs there are, though not all fit into memory
evsam benchmark --all -o table --random-weights --one-by-one --grid 16

# Files that `evsam export` made
evsam benchmark l0-int8/ -o speed --backend onnx

# On four threads of a CPU
OMP_NUM_THREADS=4 evsam benchmark -o speed
"""


def benchmark(
    output: Output,
    sams: Annotated[
        list[str],
        typer.Argument(
            metavar="SAM...", help=f"{', '.join(SAMS)}; or a folder of evsam export.", autocompletion=completing(SAMS)
        ),
    ] = listed(BenchmarkConfig.sams),
    everyone: Annotated[bool, option(WHAT, "--all", help="Every SAM that `evsam models` lists.")] = False,
    backend: Annotated[
        list[str],
        option(
            WHAT,
            "--backend",
            metavar="NAME,...",
            help=choices("What runs the SAMs, with commas between names.", BACKENDS),
            offered=BACKENDS,
        ),
    ] = listed(BenchmarkConfig.backends),
    precision: Annotated[
        list[str],
        option(
            WHAT,
            "--precision",
            metavar="NAME,...",
            help="fp32, bf16, fp16, with commas between them, where there is such.",
            offered=PRECISIONS,
        ),
    ] = listed(BenchmarkConfig.precisions),
    device: Device = "auto",
    random_weights: Annotated[
        bool,
        option(WHAT, "--random-weights", help="Fetch no weights, draw them: networks are as fast, masks mean nothing."),
    ] = False,
    offline: Offline = False,
    accuracy: Annotated[
        list[str] | None,
        option(WHAT, "--accuracy", metavar="SAM=VALUE", help="Plot speed against this; repeat for each SAM."),
    ] = None,
    batch: Annotated[
        list[str],
        option(
            HOW, "--batch", metavar="N,...", help="Images the encoder gets at once, numbers with commas between them."
        ),
    ] = listed(BenchmarkConfig.batches),
    boxes: Annotated[
        list[str],
        option(
            HOW,
            "--boxes",
            metavar="N,...",
            help="Boxes asked of one image, which is encoded before; numbers with commas.",
        ),
    ] = listed(BenchmarkConfig.boxes),
    grid: Annotated[
        list[str] | None,
        option(HOW, "--grid", metavar="N,...", help="Segment everything with N x N clicks: 16,32,64. Slow on a CPU."),
    ] = None,
    images: Annotated[
        int,
        option(
            HOW, "--images", help="Photos in a folder to segment, files to files; 0: no folder.", within=NONE_OR_MANY
        ),
    ] = BenchmarkConfig.images,
    photo: Annotated[
        Path | None, option(HOW, "--photo", metavar="FILE", help="Another photo than the one at hand.", parser=path)
    ] = None,
    rounds: Annotated[
        int | None, option(HOW, "--rounds", help="How often each is run.", within=COUNT, show_default="5, on a GPU 30")
    ] = None,
    one_by_one: Annotated[
        bool,
        option(
            HOW, "--one-by-one", help="Each SAM in a process of its own, where all together do not fit into memory."
        ),
    ] = BenchmarkConfig.one_by_one,
    processor_time: Annotated[
        bool,
        option(
            HOW,
            "--processor-time",
            help="Count the seconds that a CPU worked, all threads together: for a machine that has other work.",
        ),
    ] = BenchmarkConfig.processor_time,
    memory: Annotated[
        bool, option(HOW, "--memory/--no-memory", help="Measure peak memory, in a process for each.")
    ] = BenchmarkConfig.memory,
    as_json: Annotated[bool, option("Output", "--json", help="Print the result as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Measure SAMs on this machine: parameters, MACs, time, memory, agreement of masks.

    Every SAM is measured on every back end in every precision; what cannot be had here is left out, and named.

    All take turns, round after round, so that a busy machine slows all alike, unless --one-by-one is given. OUT gets
    JSON, a table and plots.
    """
    from pipelines.benchmark.benchmark import benchmark as run
    from pipelines.benchmark.table import NAMES
    from pipelines.device import pick_device
    from pipelines.files import make_folder

    config = BenchmarkConfig(
        sams=tuple(SAMS) if everyone else split(sams),
        backends=split(backend),
        precisions=split(precision),
        device=pick_device(device),
        random_weights=random_weights,
        offline=offline or None,
        accuracy=dict(map(_accuracy, accuracy or ())),
        photo=photo,
        batches=tuple(sorted(numbers("--batch", batch))),
        boxes=tuple(sorted(numbers("--boxes", boxes))),
        grids=tuple(sorted(numbers("--grid", grid))),
        images=images,
        rounds=rounds,
        one_by_one=one_by_one,
        processor_time=processor_time,
        memory=memory,
    )
    make_folder(output)
    with progress.of_stages(quiet=quiet or as_json) as watch:
        report = run(config, watch)
    report.write(output)
    if as_json:
        say.document(report.as_json(), indent=1)
    elif not quiet:
        print_table(report.rows(), names=NAMES)
        for note in report.notes:
            say.aside(note)


def _accuracy(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        accuracy = float(value)
    except ValueError:
        accuracy = math.nan
    if not math.isfinite(accuracy):
        raise UsageError(f"{text!r} is not an accuracy: say --accuracy efficientvit-sam-l0=45.7")
    return name, accuracy
