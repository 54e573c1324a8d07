"""The command group `bisnesctl release`, and what its commands share."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.cli.app import RUN, Commands, app
from bisnesctl.errors import UsageError

if TYPE_CHECKING:
    from bisnesctl.releases.store import InstalledRelease

#: Seconds for which a release is watched after a switch.
WATCH_SECONDS = 60
#: The longest watch that can be asked for, in seconds.
MAX_WATCH_SECONDS = 86_400

release = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Install releases side by side, switch to one without an interruption, and go back.",
)
app.add_typer(release, name="release", rich_help_panel=RUN)

Watch = Annotated[
    str,
    typer.Option(
        "--watch",
        metavar="SECONDS",
        help="For how long it is watched before it is accepted: 60, 5m; 0: not at all.",
    ),
]


def watch_seconds(text: str) -> float:
    """The seconds of the option --watch. Raises `UsageError`."""
    from bisnesctl import moments

    seconds = float(text) if text.strip().isdecimal() else moments.parse_duration(text.strip())
    if seconds is None or seconds > MAX_WATCH_SECONDS:
        raise UsageError(f"--watch {text}: write seconds or a duration, such as 60 or 5m, of a day at most")
    return seconds


def report_switched(now: "InstalledRelease") -> None:
    """Says what runs, and how to return."""
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    output.say(f"[green]✓[/] {escape(now.name)} is current; to return: [b]bisnesctl release rollback[/]")
