"""`bisnesctl rollout abort`: all bots go back."""

from typing import Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import checked_deployment, example
from bisnesctl.cli.rollout.group import drive, rollout, show_end
from bisnesctl.errors import Conflict


@rollout.command(epilog=example("bisnesctl rollout abort", "bisnesctl rollout abort --reason 'customers complain'"))
@changes
def abort(
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why; `rollout status` shows it.")
    ] = "an operator aborted it",
) -> None:
    """Hand all moved bots back to the side that served them before, also after the last step, and wait for it."""
    from bisnesctl.database import postgres
    from bisnesctl.rollout import driver, duty, state
    from bisnesctl.rollout.driver import never
    from bisnesctl.rollout.state import Phase

    deployment = checked_deployment()
    with postgres.command_connection(deployment.settings) as connection:
        found = state.active(connection) or next(iter(state.latest(connection)), None)
        if found is None:
            raise Conflict("no rollout was begun: `bisnesctl rollout plan` shows what would move")
        if found.phase is Phase.UNDONE:
            raise Conflict("no rollout is under way, and the last one went back: nothing is to be aborted")
        duty.begin_moving(deployment.settings.run_dir, found.id)
        driver.abort(connection, found, reason)
    show_end(drive(deployment, never))
