"""How the `evsam` command starts and ends: one line for an expected fault, 130 for Ctrl-C."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path

from evsam_cli import interrupts


def main() -> None:
    """Run the command line."""
    interrupts.handle()
    try:
        check_names()
        from evsam_cli import say, streams

        with streams.kept_safe():
            try:
                check_folder()
                run_command()
            except SystemExit as end:
                if end.code == interrupts.EXIT_CODE:
                    say.aside(interrupts.TOLD)
                raise
            except Exception:  # a mistake of evsam's own
                say.traceback()
                raise SystemExit(1) from None
    finally:
        interrupts.leave_at_once()


def check_names() -> None:
    """Exit when another distribution shadows or overwrote one of evsam's generic package names."""
    for name in ("pipelines", "weights"):
        if getattr(importlib.import_module(name), "OWNER", None) != "evsam":
            spec = find_spec(name)
            print(
                f"evsam: the package {name!r} that Python finds ({spec.origin if spec else 'nowhere'!r}) is not "
                "evsam's: install evsam in an environment of its own, for example with pipx",
                file=sys.stderr,
            )
            raise SystemExit(2)


def check_folder() -> None:
    """Exit when the working folder is gone: libraries end the process over it, each in its own words."""
    from evsam_cli import say

    try:
        Path.cwd()
    except OSError as error:
        say.aside(f"evsam: the working folder cannot be used ({error.strerror}): change to one that exists")
        raise SystemExit(2) from None


def run_command() -> None:
    """Parse `sys.argv` and run it; always ends with SystemExit."""
    from evsam_cli import ending, say

    say.asides_of("evsam")
    try:
        from evsam_cli.main import app

        code = app(prog_name="evsam", standalone_mode=False)
    except Exception as error:
        code = interrupts.EXIT_CODE if interrupts.came() else ending.told(error)
        if code is None:
            raise
    raise SystemExit(code)


if __name__ == "__main__":
    main()
