"""The crontab of this user: a program may own a block between two marks in it; all other lines stay as they are."""

import os
import shutil
import subprocess
from collections.abc import Sequence

from bisnesctl.errors import Conflict

#: Seconds that `crontab` may take.
TIMEOUT_SECONDS = 20
#: Bytes of a line with its end, beyond which some cron daemons cut it off.
MAX_LINE_BYTES = 998
_NONE = ("no crontab", "no such file")


def read() -> str:
    """The crontab; empty if there is none. Raises `Conflict` if it cannot be read, so that nobody overwrites it."""
    done = _run("-l")
    if done.returncode == 0:
        return _text(done.stdout)
    said = _text(done.stderr).strip()
    if any(each in said.lower() for each in _NONE):
        return ""
    raise Conflict(f"`crontab -l` failed, so nothing was changed: {said or f'exit status {done.returncode}'}")


def write(text: str) -> None:
    """Replaces the crontab. Raises `Conflict` if it is refused; then the old one stays."""
    done = _run("-", given=text) if text.strip() else _run("-r")
    if done.returncode:
        said = _text(done.stderr).strip()
        raise Conflict(f"`crontab` refused the new table: {said or f'exit status {done.returncode}'}")


def _run(word: str, given: str = "") -> "subprocess.CompletedProcess[bytes]":
    program = shutil.which("crontab", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")
    if program is None:
        raise Conflict("the program crontab is missing: install the package cron, or use `bisnesctl startup`")
    try:
        return subprocess.run(
            [program, word], input=given.encode(errors="surrogateescape"), capture_output=True, check=False,
            timeout=TIMEOUT_SECONDS, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Conflict(f"`crontab {word}` did not end within {TIMEOUT_SECONDS} s") from error
    except OSError as error:
        raise Conflict(f"{program} cannot be run: {(error.strerror or str(error)).lower()}") from error


def _text(output: bytes) -> str:
    return output.decode(errors="surrogateescape")


def block_in(text: str, begin: str, end: str) -> list[str]:
    """The lines of the first block with its marks; empty if there is none. Raises `Conflict` if its end is missing."""
    lines = text.split("\n")
    found = _first_block(lines, begin, end)
    return [] if found is None else lines[found[0] : found[1] + 1]


def with_block(text: str, block: Sequence[str]) -> str:
    """The crontab with this block, whose first and last lines are its marks, in place of an old one, or at the end.

    Raises `Conflict` as `block_in` does.
    """
    lines = text.split("\n")
    found = _first_block(lines, block[0], block[-1])
    if found is None:
        separator = "" if not text or text.endswith("\n") else "\n"
        return "".join((text, separator, *(f"{line}\n" for line in block)))
    after = without_block("\n".join(lines[found[1] + 1 :]), block[0], block[-1])
    return "\n".join([*lines[: found[0]], *block, after])


def without_block(text: str, begin: str, end: str) -> str:
    """The crontab without all blocks with these marks. Raises `Conflict` as `block_in` does."""
    lines = text.split("\n")
    while (found := _first_block(lines, begin, end)) is not None:
        lines[found[0] : found[1] + 1] = []
    return "\n".join(lines)


def _first_block(lines: Sequence[str], begin: str, end: str) -> tuple[int, int] | None:
    marks = [line.strip() for line in lines]
    if begin not in marks:
        return None
    first = marks.index(begin)
    if end not in marks[first:]:
        raise Conflict(f"the crontab has the line {begin!r} without {end!r}: put that right with `crontab -e`")
    return first, marks.index(end, first)
