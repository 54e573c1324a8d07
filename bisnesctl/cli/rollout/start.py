"""`bisnesctl rollout start` and `advance`: an operator decides about each step."""

from typing import Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import checked_deployment, example
from bisnesctl.cli.rollout.group import (
    First,
    OfType,
    Percent,
    ToSide,
    active_rollout,
    begin,
    changed,
    check_share,
    drive,
    moved,
    rollout,
    show_end,
)
from bisnesctl.errors import Conflict


@rollout.command(epilog=example("bisnesctl rollout start --type meta --percent 10"))
@changes
def start(percent: Percent = None, channel: OfType = None, to: ToSide = None, first: First = None) -> None:
    """Move a first share of the bots (default: 10 %), and wait until they have moved.

    The programs of the other side are started beside those that run. Each bot is handed over: its side finishes what
    it has in hand, messages that are accepted meanwhile wait, then the other side delivers them in order. The next
    share moves with `rollout advance`. If the moved bots do worse, all go back by themselves.
    """
    from bisnesctl.rollout.plan import Step

    deployment = checked_deployment()
    begin(deployment, channel, to, first, [Step(check_share(percent))], automatic=False)
    show_end(drive(deployment, moved))


@rollout.command(epilog=example("bisnesctl rollout advance", "bisnesctl rollout advance --percent 50"))
@changes
def advance(
    percent: Percent = None,
    force: Annotated[bool, typer.Option("--force", help="Advance although the verdict is not a pass.")] = False,
) -> None:
    """Move the next share of the bots: 25 %, 50 %, then all, or the share that is given.

    Once all bots have moved, it ends the rollout: the programs that serve no bot any more are stopped. A step whose
    verdict is not `pass` is only left with `--force`.
    """
    from bisnesctl.rollout import plan
    from bisnesctl.rollout.decision import Advance, changes_of
    from bisnesctl.rollout.state import Phase

    deployment = checked_deployment()
    found = active_rollout(deployment)
    if found.phase is not Phase.FORWARD:
        raise Conflict("the rollout goes back: `bisnesctl rollout status` shows how far it is")
    if found.step_at is not None and found.ruling != "pass" and not force:
        raise Conflict(
            f"the verdict on {found.current} is {found.ruling or 'not there yet'}: `bisnesctl rollout status` shows "
            "why, `bisnesctl rollout advance --force` advances all the same"
        )
    if percent is not None or not found.is_last:
        step = plan.Step(check_share(percent)) if percent is not None else found.steps[found.step + 1]
    else:
        step = plan.next_step(found.current.percent)
    if found.current.percent >= 100:
        step = plan.Step(100.0, 0.0)
    elif step.percent <= found.current.percent:
        raise Conflict(f"{found.current} have moved already: name a larger share, or `bisnesctl rollout abort`")
    later = tuple(each for each in found.steps[found.step + 1 :] if each.percent > step.percent)
    steps = (*found.steps[: found.step + 1], step, *later)
    automatic = found.automatic or found.current.percent >= 100
    changed(deployment, found, steps=steps, automatic=automatic, paused=False, **changes_of(found, Advance()))
    show_end(drive(deployment, moved))
