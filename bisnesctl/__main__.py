"""The entry point of `bisnesctl` and `python -m bisnesctl`: the only place where errors become exit codes."""

import contextlib
import gc
import importlib
import itertools
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from bisnesctl.errors import BisnesError, CannotWrite, ExitCode, NotPermitted

#: New objects after which Python looks for garbage. Most commands end before that; by default, a tenth of their time
#: would go into searches while modules are imported.
GARBAGE_THRESHOLD = 200_000
#: The variable with which a shell asks for the words that complete a line.
COMPLETION = "_BISNESCTL_COMPLETE"
#: The order of the commands in `--help`: the order in which a newcomer needs them. Other commands follow by name.
ORDER = (
    "help",
    "init",
    "render",
    "migrate",
    "start",
    "stop",
    "restart",
    "rollback",
    "status",
    "describe",
    "events",
    "monit",
    "health",
    "logs",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line (default: that of the process) and returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(given)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # rich replaces it
            return _end_of_reader()
        return end.code if isinstance(end.code, int) else int(ExitCode.OK)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        return _end_of_reader()
    except Exception as error:
        try:
            return _report(_translate(error), verbose=_verbose(given))
        except OSError:  # the error cannot be written either
            _discard(sys.stderr)
            return int(ExitCode.CONFLICT)


def _run(arguments: list[str]) -> int:
    gc.set_threshold(GARBAGE_THRESHOLD)
    if COMPLETION not in os.environ:
        from bisnesctl.releases.hand_over import hand_over

        hand_over(arguments)
    load_commands(arguments)
    try:
        return _invoke(arguments)
    finally:
        _flush()
        gc.freeze()  # nothing is left to be found: the end of the interpreter would look for garbage three times


def load_commands(arguments: Sequence[str] = ()) -> None:
    """Imports the command that these arguments name, or else all commands; each registers itself.

    Commands import slow modules only when they run. `help` needs all commands, to tell them from topics.
    """
    from bisnesctl import cli
    from bisnesctl.terminal.habits import ALIASES

    names = [module.name for module in pkgutil.iter_modules(cli.__path__)]
    word = next((each for each in arguments if not each.startswith("-")), "")
    wanted = ALIASES.get(word.lower(), (word,))[0].replace("-", "_")
    if wanted in names and wanted != "help":
        names = [wanted]
    for name in sorted(names, key=lambda each: (ORDER.index(each) if each in ORDER else len(ORDER), each)):
        importlib.import_module(f"{cli.__name__}.{name}")


def _invoke(arguments: list[str]) -> int:
    """Runs a command. typer's own `main` hides a closed pipe, and draws boxes around errors."""
    import typer

    from bisnesctl.cli.app import app
    from bisnesctl.terminal import usage
    from bisnesctl.terminal.output import fail

    if COMPLETION in os.environ:
        app(arguments, prog_name="bisnesctl")
    click_error: type[Exception] = typer.BadParameter.__mro__[2]  # typer has a click of its own and hides its class
    command = typer.main.get_command(app)
    try:
        with command.make_context("bisnesctl", list(arguments)) as context:  # it empties the list
            command.invoke(context)
    except typer.Exit as end:
        return int(end.exit_code)
    except typer.Abort:
        fail("aborted")
        return int(ExitCode.FAILED)
    except click_error as error:
        fail(usage.explain(error))
        return int(ExitCode.USAGE)
    return int(ExitCode.OK)


def _end_of_reader() -> int:
    """The reader of the output, such as `head`, has ended: nothing more is written, not even an error."""
    for stream in (sys.stdout, sys.stderr):
        _discard(stream)
    return int(ExitCode.PIPE_CLOSED)


def _flush() -> None:
    """Writes the output now: at the end of the interpreter, the error of a full disk would not be translated."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard(sys.stdout)
        raise CannotWrite(f"the output cannot be written: {(error.strerror or str(error)).lower()}") from error


def _discard(stream: TextIO) -> None:
    """Discards the buffer of a stream that cannot be written. Otherwise Python fails to flush it and exits with 120."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _verbose(arguments: list[str]) -> bool:
    before_command = itertools.takewhile(lambda each: each.startswith("-"), arguments)
    return not {"-v", "--verbose"}.isdisjoint(before_command)


def _translate(error: Exception) -> Exception:
    """Turns the error of a full or read-only disk, which any write may raise, into `CannotWrite`, and that of a file of
    another user into `NotPermitted`."""
    from bisnesctl.host import disk

    if isinstance(error, PermissionError) and error.filename is not None:
        return NotPermitted(disk.explain_forbidden(Path(os.fsdecode(error.filename))))
    if not isinstance(error, OSError) or not disk.is_of_disk(error):
        return error
    if error.filename is None:
        return CannotWrite(f"a file or the output cannot be written: {(error.strerror or str(error)).lower()}")
    return CannotWrite(disk.explain(error, Path(os.fsdecode(error.filename))))


def _report(error: Exception, verbose: bool) -> int:
    from bisnesctl.terminal.output import fail, show_traceback

    if verbose:
        show_traceback(error)
    if isinstance(error, BisnesError):
        fail(str(error))
        return int(error.exit_code)
    fail(f"{type(error).__name__}: {error}" + ("" if verbose else " (`bisnesctl -v …` shows a traceback)"))
    return int(ExitCode.FAILED)


if __name__ == "__main__":
    sys.exit(main())
