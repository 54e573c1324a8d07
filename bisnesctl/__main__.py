"""The entry point of `bisnesctl` and `python -m bisnesctl`: the one place where errors become exit codes."""

import itertools
import os
import sys
import traceback
from collections.abc import Sequence

from bisnesctl.errors import BisnesError, ExitCode


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
        # The reader (`| head`) has gone; Python must not complain about it while it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.OK)
    except Exception as error:
        return _report(error, verbose=_verbose(given))


def _run(arguments: list[str]) -> int:
    from bisnesctl.cli.app import app, load_commands

    load_commands()
    app(arguments, prog_name="bisnesctl")
    return int(ExitCode.OK)


def _verbose(arguments: list[str]) -> bool:
    before_command = itertools.takewhile(lambda each: each.startswith("-"), arguments)
    return not {"-v", "--verbose"}.isdisjoint(before_command)


def _report(error: Exception, verbose: bool) -> int:
    from bisnesctl.output import fail

    if verbose:
        traceback.print_exception(error)
    if isinstance(error, BisnesError):
        fail(str(error))
        return int(error.exit_code)
    fail(f"{type(error).__name__}: {error}" + ("" if verbose else " (`bisnesctl -v …` shows where)"))
    return int(ExitCode.FAILED)


if __name__ == "__main__":
    sys.exit(main())
