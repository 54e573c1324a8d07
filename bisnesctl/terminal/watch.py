"""Shows a screen again and again until `q` or Ctrl-C."""

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator

from rich.control import Control
from rich.text import Text

from bisnesctl.errors import UsageError
from bisnesctl.terminal import output


def watch(draw: Callable[[], None], seconds: float) -> None:
    """Draws every `seconds`, on a screen of its own. Raises `UsageError` without a terminal."""
    console = output.out()
    if not (console.is_terminal and sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("--watch needs a terminal. Scripts can repeat `bisnesctl status --json`")
    with contextlib.suppress(KeyboardInterrupt), _own_screen():
        while True:
            with console.capture() as capture:
                draw()
            lines = Text.from_ansi(capture.get().rstrip("\n")).split("\n")
            room = console.height - 1
            rest = f"; {len(lines) - room} more lines" if len(lines) > room else ""
            console.control(Control.home(), Control.clear())
            console.print(Text("\n").join(lines[:room]), soft_wrap=True)
            console.print(f"[dim]{time.strftime('%H:%M:%S %Z')}; every {seconds:g} s; q ends{rest}[/]", end="")
            if _key_within(seconds) == "q":
                return


@contextlib.contextmanager
def _own_screen() -> Iterator[None]:
    """The alternate screen without a cursor; keys arrive at once. Everything is as before at the end."""
    console, before = output.out(), termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        console.set_alt_screen(True)
        console.show_cursor(False)
        yield
    finally:
        console.show_cursor(True)
        console.set_alt_screen(False)
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _key_within(seconds: float) -> str:
    """`q` if it is pressed within that time, or the terminal is gone; else empty."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([sys.stdin], [], [], left)[0]:
            keys = os.read(sys.stdin.fileno(), 1024).lower()  # a buffer would hide keys from the next look
            if not keys or b"q" in keys:
                return "q"
    return ""
