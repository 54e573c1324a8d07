"""Has a command run by the current release, whichever Python it was typed with.

So the `bisnesctl` of a checkout, or of an older release, changes nothing with code of its own.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bisnesctl import paths
from bisnesctl.errors import BisnesError
from bisnesctl.processes.switch_records import PART_OF

#: Commands that are about several releases or about their own one, or that need none.
_FOR_ALL = ("release", "help", "init", "wa-js")


def hand_over(arguments: Sequence[str]) -> None:
    """Replaces this process by that of the current release. Returns if this is it, or if it cannot be run."""
    word = next((each for each in arguments if not each.startswith("-")), "")
    if not word or PART_OF in os.environ or {"-h", "--help"} & set(arguments):
        return
    prefix = Path(sys.prefix)
    if prefix.is_symlink():  # its path would mean another release after the next switch
        _execute(prefix.parent / prefix.readlink(), arguments)
    if word not in _FOR_ALL and (current := _current()) is not None and not prefix.samefile(current):
        _execute(current, arguments)


def _current() -> Path | None:
    """The folder of the current release of the deployment that the command is about; None if there is none."""
    from bisnesctl.settings import load_partly

    with contextlib.suppress(BisnesError, OSError):
        link = paths.current_release(load_partly().with_defaults().home)
        return link.resolve(strict=True) if link.is_symlink() else None
    return None


def _execute(folder: Path, arguments: Sequence[str]) -> None:
    from bisnesctl.releases.programs import clean_environment

    python = folder / "bin" / "python"
    command = [str(python), "-P", "-m", "bisnesctl", *arguments]
    with contextlib.suppress(OSError):  # a damaged release must not keep an operator from acting
        os.execve(python, command, clean_environment())  # noqa: S606 - no shell is needed
