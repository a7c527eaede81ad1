"""How the `evsam` command starts and ends: one line for an expected fault, 130 for Ctrl-C."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from importlib.util import find_spec
from typing import NoReturn

EXIT_INTERRUPTED = 130
_interrupted = threading.Event()


def main() -> None:
    """Run the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        check_names()
        run_command()
    except SystemExit as end:
        if end.code == EXIT_INTERRUPTED:
            print(
                "evsam: interrupted; a command that has --resume goes on with it, and nothing finished is lost",
                file=sys.stderr,
            )
        raise


def _interrupt(*_: object) -> NoReturn:
    """Leave through every `finally`; Typer would turn a KeyboardInterrupt into exit code 1."""
    _interrupted.set()
    raise SystemExit(EXIT_INTERRUPTED)


def check_names() -> None:
    """Exit when another distribution shadows or overwrote one of evsam's generic package names."""
    for name in ("pipelines", "weights"):
        if getattr(importlib.import_module(name), "OWNER", None) != "evsam":
            spec = find_spec(name)
            print(
                f"evsam: the package {name!r} that Python finds ({spec.origin if spec else 'nowhere'}) is not evsam's: "
                "install evsam in an environment of its own, for example with pipx",
                file=sys.stderr,
            )
            raise SystemExit(2)


def run_command() -> None:
    """Parse `sys.argv` and run it; always ends with SystemExit."""
    from evsam_cli.main import app
    from pipelines.errors import EvsamError

    try:
        app()
    except EvsamError as error:
        if _interrupted.is_set():  # libraries may turn the way out into a fault of what they were reading
            raise SystemExit(EXIT_INTERRUPTED) from None
        print(f"evsam: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(1) from None
    except OSError as error:  # a path that the system will not even look at: a name too long, a closed folder
        if error.filename is None:
            raise
        print(f"evsam: cannot use {error.filename}: {error.strerror}", file=sys.stderr)
        raise SystemExit(EvsamError.exit_code) from None


if __name__ == "__main__":
    main()
