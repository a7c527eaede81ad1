"""`evsam weights`: see, get and check the files that models are loaded from."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from evsam_cli import options, progress, say
from evsam_cli.commands import completing, group, verb
from evsam_cli.options import option
from pipelines.errors import UsageError, WeightsError
from weights import manifest, store

app = group(
    """See, get and check model weights.

    Starter weights come with the package. All others are downloaded when a command first needs them, or now with
    `pull`, into the user's cache or the folder EVSAM_HOME. EVSAM_OFFLINE=1 forbids the network; EVSAM_MIRROR=URL asks
    a mirror for them, under the paths they have at their source. Those that other programs have fetched from the
    Hugging Face Hub are used from its cache; HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN mean what
    they mean there.""",
    """
# What there is, and what of it is here
evsam weights list

# Fetch some before the network is gone
evsam weights pull efficientvit-sam-l0 yolov8m
""",
)

NAME = "A name from `evsam weights list`."
STATES: dict[store.State, str] = {
    "bundled": "bundled",
    "cached": "cached",
    "shared": "in the Hugging Face cache",
    "unverified": "cached, not verified",
    "damaged": "damaged",
    "missing": "missing",
}


def _names(incomplete: str) -> list[str]:
    """Ends of a name, for a shell."""
    return completing(manifest.names())(incomplete)


RECORDS = {  # of a file's sha256
    "manifest": "ok: {0.path} sha256 {0.sha256} (as published)",
    "lock": "not verified: {0.path} sha256 {0.sha256} (unchanged since it came; no hash was published to compare with)",
    None: "not verified: {0.path} sha256 {0.sha256} (no hash was published, and none was taken when it came)",
}


@verb(
    app,
    "list",
    """
# A table
evsam weights list

# With URLs and hashes, for programs
evsam weights list --json
""",
)
def list_weights(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with each file's URL and sha256.")] = False,
) -> None:
    """Show what there is: each name, its model, size and licence, and whether it is here.

    `cached` is as published; `not verified` is what nobody published a hash of, or was put there by hand; `damaged` is
    not what it should be. `evsam weights verify` reads the files whole and says more.
    """
    if as_json:
        say.document([_describe(name) for name in manifest.names()], indent=2)
        return

    rows = []
    for name in manifest.names():
        files = manifest.files(name)
        licences = ", ".join(dict.fromkeys(map(licence_of, files)))
        rows.append((name, files[0].model, size_of(name), licences, STATES[store.state(name)]))
    say.table(rows, header=("name", "for", "size", "licence", "status"))


@verb(
    app,
    "pull",
    """
# A SAM and a detector
evsam weights pull efficientvit-sam-l0 yolov8m

# Repair one
evsam weights pull yolov8m --force
""",
)
def pull(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help=NAME, autocompletion=_names)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Get every name of the list.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Download anew what is here, to repair it.")] = False,
) -> None:
    """Download weights, so that later commands need no network.

    A download that was cut or stopped goes on where it was when the same command is run again. What is here is checked,
    and stays until --force has brought another.
    """
    wanted = manifest.names() if everything else names or []
    if not wanted:
        raise UsageError("nothing to pull: give names from `evsam weights list`, or --all")
    for name in wanted:
        manifest.files(name)  # an unknown name fails before anything is downloaded

    with progress.of_downloads() as watch:
        for name in wanted:
            watch.within(name, 0, None)
            say.result(f"{name} {store.fetch(name, force=force, progress=partial(watch.within, name))}")


@verb(
    app,
    "path",
    """
# Where the bundled SAM is
evsam weights path evsam-starter
""",
)
def path(name: Annotated[str, typer.Argument(metavar="NAME", help=NAME, autocompletion=_names)]) -> None:
    """Print where the file of a name is, for use in scripts. Downloads nothing."""
    found = store.locate(name)
    if found is None:
        raise WeightsError(f"{name} is not on this machine; get it with `evsam weights pull {name}`")
    say.result(found)


@verb(
    app,
    "verify",
    """
# All that are here
evsam weights verify

# One
evsam weights verify evsam-starter
""",
)
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME...", help=NAME, show_default="all that are here", autocompletion=_names),
    ] = None,
) -> None:
    """Read weights whole and compare their sha256 with the one that was published.

    Where none was, only changes since the file came can be seen: it is said to be not verified.
    """
    faulty = []
    for name in names or [name for name in manifest.names() if store.locate(name)]:
        try:
            for file in store.verify(name):
                say.result(f"{name} {RECORDS[file.against].format(file)}")
        except WeightsError as error:
            faulty.append(name)
            say.result(f"{name} FAULTY: {error}")
    if faulty:
        raise WeightsError(f"these weights failed the check: {', '.join(faulty)}")


@verb(
    app,
    "import",
    """
# A file that was downloaded elsewhere, named as at its source
evsam weights import efficientvit_sam_l0.pt

# One that has another name
evsam weights import checkpoint.pt --as efficientvit-sam-l0
""",
)
def import_weights(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A weights file, named as at its source.", parser=options.path)
    ],
    name: Annotated[
        str | None, option(None, "--as", metavar="NAME", help="What it is, if named otherwise.", autocompletion=_names)
    ] = None,
) -> None:
    """Copy a file you have into the cache, in place of a download.

    For a machine without a network: download the URL of `evsam weights list --json` elsewhere, bring the file here.
    """
    say.result(store.import_file(file, name))


def _describe(name: str) -> dict[str, object]:
    found = store.locate(name)
    shared = found if found and store.state(name) == "shared" else None
    if shared and shared.is_relative_to(store.home()):
        shared = shared.readlink()
    return {
        "name": name,
        "state": store.state(name),
        "path": str(found) if found else None,
        "hub_path": str(shared) if shared else None,
        "files": [asdict(file) for file in manifest.files(name)],
    }


def licence_of(file: manifest.WeightsFile) -> str:
    """As in "S-Lab-1.0: no commercial use"."""
    return ": ".join(filter(None, (file.licence.removeprefix("LicenseRef-"), file.terms)))


def size_of(name: str) -> str:
    """The size of a name's files together: that of the source, or of the bundled file."""
    from rich.filesize import decimal

    found = store.locate(name)
    sizes = [file.bytes or file.about_bytes or (found.stat().st_size if found else 0) for file in manifest.files(name)]
    return decimal(sum(sizes)) if all(sizes) else ""
