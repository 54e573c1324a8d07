"""The entry point of `bisnesctl` and `python -m bisnesctl`: the one place where errors become exit codes."""

import contextlib
import itertools
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from bisnesctl.errors import BisnesError, CannotWrite, ExitCode


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line (default: the process's own) and returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(given)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(ExitCode.OK)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        _silence(sys.stdout)  # the reader (`| head`) has gone
        return int(ExitCode.OK)
    except Exception as error:
        try:
            return _report(_as_ours(error), verbose=_verbose(given))
        except OSError:  # the error has nowhere to go either
            _silence(sys.stderr)
            return int(ExitCode.CONFLICT)


def _run(arguments: list[str]) -> int:
    from bisnesctl.cli.app import app, load_commands

    load_commands(arguments)
    try:
        app(arguments, prog_name="bisnesctl")
    finally:
        _flush()
    return int(ExitCode.OK)


def _flush() -> None:
    """Write the output now: a full disk would otherwise be met at the interpreter's end, where nobody translates it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _silence(sys.stdout)
        raise CannotWrite(f"the output cannot be written: {(error.strerror or str(error)).lower()}") from error


def _silence(stream: TextIO) -> None:
    """What is left in a stream that takes nothing is dropped; Python would complain about it while it flushes at the
    end, and exit with 120."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _verbose(arguments: list[str]) -> bool:
    before_command = itertools.takewhile(lambda each: each.startswith("-"), arguments)
    return not {"-v", "--verbose"}.isdisjoint(before_command)


def _as_ours(error: Exception) -> Exception:
    """A disk that is full or read-only, which any write may meet, in words of ours."""
    from bisnesctl.host import disk

    if not isinstance(error, OSError) or not disk.is_of_disk(error):
        return error
    if error.filename is None:
        return CannotWrite(f"a file or the output cannot be written: {(error.strerror or str(error)).lower()}")
    return CannotWrite(disk.explain(error, Path(os.fsdecode(error.filename))))


def _report(error: Exception, verbose: bool) -> int:
    from bisnesctl.terminal.output import fail

    if verbose:
        traceback.print_exception(error)
    if isinstance(error, BisnesError):
        fail(str(error))
        return int(error.exit_code)
    fail(f"{type(error).__name__}: {error}" + ("" if verbose else " (`bisnesctl -v …` shows where)"))
    return int(ExitCode.FAILED)


if __name__ == "__main__":
    sys.exit(main())
