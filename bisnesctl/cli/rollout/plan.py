"""`bisnesctl rollout plan`: which bots would move, and in which order."""

from dataclasses import dataclass
from typing import Annotated

import typer

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import AsJson, example, started_deployment
from bisnesctl.cli.rollout.group import First, OfType, ToSide, rollout, side_of

#: The steps that are shown if none are given.
_USUAL_STEPS = "10%:10m,50%:30m,100%"


@dataclass(frozen=True)
class PlannedBot:
    """A bot that would move."""

    place: int
    bot: str
    channel: str
    owner: str | None
    step: str
    isTest: bool
    messages: int
    waiting: int


@rollout.command(
    "plan", epilog=example("bisnesctl rollout plan", "bisnesctl rollout plan --type meta '10%:10m,50%:30m,100%'")
)
@reads
def plan_rollout(
    steps: Annotated[
        str, typer.Argument(metavar="[STEPS]", help="The steps, as for `rollout run`.", show_default=False)
    ] = _USUAL_STEPS,
    channel: OfType = None,
    to: ToSide = None,
    first: First = None,
    as_json: AsJson = False,
) -> None:
    """Show which bots would move, in which order and at which step; nothing is changed.

    Named bots move first, then numbers for tests, then the least busy, then the rest.
    """
    from bisnesctl.database import postgres
    from bisnesctl.rollout import candidates, plan
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import Column, escape

    deployment = started_deployment()
    side, shares = side_of(deployment, to), plan.parse_steps(steps)
    with postgres.command_connection(deployment.settings) as connection:
        found, owners = candidates.find(connection, side, channel, first or [])
        none = "" if found else candidates.why_none(connection, side, channel)
    counts = [plan.count(len(found), each.percent) for each in shares]
    rows = [
        PlannedBot(
            place, each.name, owners[each.bot_id].channel, owners[each.bot_id].owner,
            str(next(step for step, count in zip(shares, counts, strict=True) if place <= count)), each.is_test,
            each.messages, owners[each.bot_id].waiting,
        )
        for place, each in enumerate(found, 1)
    ]  # fmt: skip
    columns = [
        Column("#", "right"), Column("bot"), Column("channel"), Column("served by"), Column("moves at"),
        Column("messages", "right"), Column("waiting", "right"), Column("note", wraps=True),
    ]  # fmt: skip

    def show(rows: list[PlannedBot]) -> None:
        output.print_table(
            columns,
            [
                (
                    str(each.place), escape(each.bot), each.channel, each.owner or f"{side.other} (no owner yet)",
                    each.step, str(each.messages), str(each.waiting), "for tests" if each.isTest else "",
                )
                for each in rows
            ],
        )  # fmt: skip
        output.say(
            f"to {side}; nothing was changed. Next: `bisnesctl rollout start --percent {shares[0].percent:g}`, or "
            f"`bisnesctl rollout run '{escape(steps)}'`"
        )

    output.print_found(rows, as_json, show, none)
