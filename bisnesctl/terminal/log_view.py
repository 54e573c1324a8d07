"""Shows log files on the terminal. Lines of several processes have a coloured prefix."""

import time
from collections.abc import Callable, Sequence

from rich.text import Text

from bisnesctl.health.log_files import Follower, LogFile, tail
from bisnesctl.terminal import output, printable

#: Seconds between reads of the files.
READ_INTERVAL_SECONDS = 0.1
_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta")


class LogView:
    """Follows files from now on; `show_tail` shows earlier lines."""

    def __init__(self, files: Sequence[LogFile]) -> None:
        self._files = files
        self._followers = [(file, Follower(file.path)) for file in files]
        names = list(dict.fromkeys(file.instance for file in files))
        self._width = max((len(name) for name in names), default=0) if len(names) > 1 else 0
        self._colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}

    def show_tail(self, count: int) -> None:
        """Prints the last `count` lines of each file."""
        for file in self._files:
            for line in tail(file.path, count):
                self._print(file, line)

    def report_silence(self) -> None:
        """Names the instances that have not logged anything yet, which may look like wrong names."""
        spoken = {file.instance for file in self._files if tail(file.path, 1)}
        for name in dict.fromkeys(file.instance for file in self._files):
            if name not in spoken:
                folder = next(file.path.parent for file in self._files if file.instance == name)
                output.say(output.escape(f"{name} has not logged anything yet in {folder}"))

    def show_new(self) -> None:
        """Prints the lines that were added since the last call."""
        for file, follower in self._followers:
            for line in follower.lines():
                self._print(file, line)

    def follow(self, until: Callable[[], bool]) -> None:
        """Prints new lines until `until` returns true."""
        while not until():
            self.show_new()
            time.sleep(READ_INTERVAL_SECONDS)
        self.show_new()

    def _print(self, file: LogFile, line: str) -> None:
        text = Text(no_wrap=True)
        if self._width:
            text.append(f"{file.instance:<{self._width}} ", self._colours[file.instance])
            text.append("! " if file.is_error else "| ", "red" if file.is_error else "dim")
        text.append_text(Text.from_ansi(printable.log_line(line)))
        output.out().print(text, soft_wrap=True)
