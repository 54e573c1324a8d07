"""`bisnesctl queue drain`: waits until nothing waits."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import example, usable_settings
from bisnesctl.cli.queue.group import duration, queue
from bisnesctl.errors import Unhealthy

if TYPE_CHECKING:
    from bisnesctl.queue.drain import Drain


@queue.command(epilog=example("bisnesctl queue drain all --timeout 10m", "bisnesctl queue drain 0128/0"))
@reads
def drain(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A bot (0128/0), a company (0128), a channel (meta, wwebjs), or all."),
    ],
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Give up after 90s, 30m, 2h; without it, wait on.")
    ] = None,
) -> None:
    """Wait until no message of a bot, a company or a channel waits, and show the progress.

    New messages are still accepted, and are waited for as well. The causes that block the rest are named. The
    exit code is 5 if messages are left after --timeout.
    """
    from bisnesctl.database import postgres
    from bisnesctl.queue import drain as draining
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    seconds = duration("--timeout", timeout)
    with postgres.command_connection(usable_settings()) as connection:
        watched = draining.Drain(connection, name)
        with _progress() as report:
            drained = watched.run(seconds, report)
    if not drained:
        blocked = "".join(f"; {each}" for each in watched.blockers)
        raise Unhealthy(f"{watched.left_text} after {timeout}{blocked}. See `bisnesctl queue list`")
    output.result(escape(f"nothing waits: {watched.summary}"))


def _progress() -> "Progress":
    from bisnesctl.terminal import output

    return Progress(output.err().is_terminal)


class Progress:
    """Shows the progress: one line that changes on a terminal, otherwise a line now and then."""

    #: Seconds between two lines without a terminal.
    LINE_SECONDS = 10.0

    def __init__(self, live: bool) -> None:
        from rich.status import Status

        from bisnesctl.terminal import output

        self._status = Status("", console=output.err()) if live else None
        self._last: tuple[float, tuple[str, ...]] | None = None

    def __enter__(self) -> "Progress":
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, watched: "Drain") -> None:
        """Shows how far it is."""
        import time

        from bisnesctl.terminal import output
        from bisnesctl.terminal.output import escape

        lines = [watched.progress, *(f"  {each}" for each in watched.blockers)]
        if self._status is not None:
            self._status.update("\n".join(escape(line) for line in lines))
            return
        now, blockers = time.monotonic(), tuple(watched.blockers)
        if self._last is None or now - self._last[0] >= self.LINE_SECONDS or blockers != self._last[1]:
            self._last = now, blockers
            for line in lines:
                output.say(escape(line))
