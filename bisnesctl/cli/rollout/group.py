"""The command group `bisnesctl rollout`, and what its commands share."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.cli.app import RUN, Commands, app
from bisnesctl.errors import Conflict, UsageError

if TYPE_CHECKING:
    from bisnesctl.bots.ownership import Side
    from bisnesctl.processes.deployment import Deployment
    from bisnesctl.rollout.driver import Until
    from bisnesctl.rollout.plan import Step
    from bisnesctl.rollout.state import Rollout

rollout = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Move bots between the legacy process and the isolated processes by degrees, and back by itself.",
)
app.add_typer(rollout, name="rollout", rich_help_panel=RUN)


class Channel(StrEnum):
    """A channel whose bots move."""

    META = "meta"
    WWEBJS = "wwebjs"


class To(StrEnum):
    """The side to which bots move."""

    MULTIPROCESS = "multiprocess"
    LEGACY = "legacy"


OfType = Annotated[Channel | None, typer.Option("--type", help="Only bots of this channel. Default: of both.")]
ToSide = Annotated[
    To | None, typer.Option("--to", help="The side to which they move. Default: the one that does not run yet.")
]
First = Annotated[
    list[str] | None,
    typer.Option("--bot", metavar="BOT", help="These move first: a bot (0128/0), a company (0128). May be repeated."),
]
Percent = Annotated[float | None, typer.Option("--percent", metavar="P", help="The share of the bots in percent.")]


def side_of(deployment: "Deployment", to: To | None) -> "Side":
    """The side to which bots move. Raises `Conflict` if nothing runs, or both sides run and none was named."""
    from bisnesctl.bots.ownership import Side

    deployment.require_running()
    if to is not None:
        return Side(to)
    if len(deployment.modes) > 1:
        raise Conflict("both sides run: name the one to which bots move, `--to multiprocess` or `--to legacy`")
    return Side(deployment.mode).other


def begin(
    deployment: "Deployment", channel: Channel | None, to: To | None, first: list[str] | None, steps: "list[Step]",
    automatic: bool,
) -> "Rollout":  # fmt: skip
    """Begins a rollout. Raises `Conflict` if one is under way, `UsageError` if no bot is left to move."""
    from bisnesctl.bots import ownership
    from bisnesctl.cli.queue.group import operator
    from bisnesctl.database import postgres
    from bisnesctl.rollout import candidates, duty, state
    from bisnesctl.rollout.rollback import check_queue

    side = side_of(deployment, to)
    check_queue(deployment, side)
    with postgres.command_connection(deployment.settings) as connection:
        if state.active(connection):
            raise Conflict(
                "a rollout is under way: `bisnesctl rollout status` shows it, `bisnesctl rollout abort` ends it"
            )
        ownership.introduce(connection, side.other, operator())
        found, _ = candidates.find(connection, side, channel, first or [])
        if not found:
            raise UsageError(candidates.why_none(connection, side, channel))
        bots = [each.bot_id for each in found]
        duty.begin_moving(deployment.settings.run_dir, 0)
        return state.create(connection, channel, side, bots, steps, automatic, operator())


def drive(deployment: "Deployment", until: "Until") -> "Rollout | None":
    """Drives the rollout until `until` says so; a signal ends this command, and the program alerts continues."""
    from bisnesctl.cli.start import signals_as_interrupt
    from bisnesctl.rollout.driver import Driver
    from bisnesctl.rollout.judge import StepJudge
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    def report(text: str) -> None:
        output.say(escape(text))

    with signals_as_interrupt():
        try:
            return Driver(deployment, StepJudge(deployment), report, output.say).run(until)
        except KeyboardInterrupt:
            output.say("this command ends; the rollout continues by itself: `bisnesctl rollout status`")
            raise


def active_rollout(deployment: "Deployment") -> "Rollout":
    """The rollout that is under way. Raises `Conflict` if there is none."""
    from bisnesctl.database import postgres
    from bisnesctl.rollout import state

    with postgres.command_connection(deployment.settings) as connection:
        found = state.active(connection)
    if found is None:
        raise Conflict("no rollout is under way: `bisnesctl rollout plan` shows what would move")
    return found


def changed(deployment: "Deployment", rollout: "Rollout", **values: object) -> None:
    """Changes a rollout. Raises `Conflict` if it changed meanwhile."""
    from bisnesctl.database import postgres
    from bisnesctl.rollout import state

    with postgres.command_connection(deployment.settings) as connection:
        if not state.change(connection, rollout, **values):
            raise Conflict("the rollout changed at this moment: see `bisnesctl rollout status`, and type it again")


def moved(rollout: "Rollout", action: object) -> bool:
    """Until all bots of the step have moved, or the rollout goes back."""
    from bisnesctl.rollout.decision import GoBack, Wait, Watch

    return isinstance(action, Watch | GoBack) or (isinstance(action, Wait) and rollout.step_at is not None)


def show_end(rollout: "Rollout | None") -> None:
    """Prints how it stands after a command."""
    from bisnesctl.terminal import output
    from bisnesctl.terminal.rollout_view import headline

    if rollout is not None:
        output.result(headline(rollout))


def check_share(percent: float | None) -> float:
    """The share of the option --percent. Raises `UsageError`."""
    from bisnesctl.rollout import plan

    return plan.check_percent(plan.LADDER[0] if percent is None else percent)
