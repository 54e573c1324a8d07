"""`bisnesctl release rollback`: the release before."""

from typing import Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import checked_deployment, example, running_deployment
from bisnesctl.cli.release.group import WATCH_SECONDS, Watch, release, report_switched, watch_seconds


@release.command("rollback", epilog=example("bisnesctl release rollback", "bisnesctl release rollback --watch 0"))
@changes
def roll_back(
    watch: Watch = str(WATCH_SECONDS),
    unfinished: Annotated[
        bool,
        typer.Option("--unfinished", help="Only finish or undo a switch that was interrupted; the guard does it too."),
    ] = False,
) -> None:
    """Return to the previous good release, in the way of `release switch`. Repeated, it goes further back.

    The processes stay isolated. To return to the single process instead, use `bisnesctl rollback`.
    """
    from bisnesctl.releases import actions
    from bisnesctl.releases.live import interruptible
    from bisnesctl.terminal import output, preview

    if unfinished:
        if not actions.finish_interrupted(running_deployment(), preview.remark):
            output.say("no switch was interrupted: nothing to do")
        return
    seconds = watch_seconds(watch)
    with interruptible():
        now = actions.roll_back(checked_deployment(), seconds, preview.remark)
    report_switched(now)
