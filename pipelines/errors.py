"""The errors evsam raises on purpose. A message says what is wrong, where, and what to do."""

from pipelines import not_yet


class EvsamError(Exception):
    """A fault the user can mend: the command line prints it as one line and exits with `exit_code`."""

    exit_code = 2


class UsageError(EvsamError):
    """An option, a name or a prompt that cannot be right."""


class SetupError(EvsamError):
    """The machine, the environment or the output folder is not fit for the run (full disk, no permission)."""


class WeightsError(EvsamError):
    """Weights that are missing, damaged or not the ones their name promises."""


class DataError(EvsamError):
    """A file of boxes or annotations that does not hold what its format says."""


class ImageError(EvsamError):
    """One image cannot be segmented. A run records the reason and goes on with the next image."""


class UnknownNameError(UsageError):
    """A name that is in no registry; the message lists those that are, and says which may be meant."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        choice = f"choose one of: {', '.join(known)}"
        if words := not_yet.instead(kind, name):
            super().__init__(f"{kind} {name!r} is not supported (yet): {words}; {choice}")
        elif near := not_yet.nearest(name, known):
            super().__init__(f"unknown {kind} {name!r}: did you mean {near!r}? Or {choice}")
        else:
            super().__init__(f"unknown {kind} {name!r}; {choice}")
