"""What a user can do about weights that are missing, damaged or not to be had from here."""

from __future__ import annotations

from pipelines.errors import WeightsError
from weights import origins, places
from weights.manifest import WeightsFile, files


def renewal(file: WeightsFile) -> str:
    """The command that fetches another in the place of what is here."""
    return f"evsam weights pull --force {file.name}"


def not_renewed(file: WeightsFile, why: str) -> WeightsError:
    """Of what is here and was to be fetched again."""
    return WeightsError(f"{file.name} cannot be fetched anew: {why}")


def missing(file: WeightsFile, why: str = "") -> WeightsError:
    """why: it cannot be fetched now."""
    if file.bundled:
        return WeightsError(f"{file.name}: {places.path_of(file)} is missing from the package; install evsam again")
    return WeightsError(
        f"{file.name} is not on this machine{why}: there is no {places.path_of(file)}. With a network, run"
        f" `evsam weights pull {file.name}`; without one, {recipe(file)}"
    )


def recipe(file: WeightsFile) -> str:
    """How to get `file`, and the others of its name that are missing, without a network here."""
    needed = [each for each in files(file.name) if each == file or places.here(each) is None]
    told = " and ".join(f"{each.url} ({origins.content(each)})" for each in needed)
    which = file.filename if len(needed) == 1 else "FILE"
    each = "" if len(needed) == 1 else " for each"
    return (
        f"fetch {told} elsewhere, bring it here and run `evsam weights import {which} --as {file.name}`{each}; or set"
        " EVSAM_MIRROR to a server that has it"
    )
