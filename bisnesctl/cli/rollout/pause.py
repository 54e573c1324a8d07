"""`bisnesctl rollout pause` and `resume`."""

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import checked_deployment, example
from bisnesctl.cli.rollout.group import active_rollout, changed, rollout
from bisnesctl.errors import Conflict


@rollout.command(epilog=example("bisnesctl rollout pause"))
@changes
def pause() -> None:
    """Stop advancing until `rollout resume`: bots stay where they are. If moved ones do worse, all still go back."""
    _set_paused(True)


@rollout.command(epilog=example("bisnesctl rollout resume"))
@changes
def resume() -> None:
    """Continue a rollout that was paused."""
    _set_paused(False)


def _set_paused(paused: bool) -> None:
    from bisnesctl.rollout.state import Phase
    from bisnesctl.terminal import output

    deployment = checked_deployment()
    found = active_rollout(deployment)
    if found.phase is not Phase.FORWARD:
        raise Conflict("the rollout goes back, which cannot be paused: `bisnesctl rollout status` shows how far it is")
    if found.paused != paused:
        changed(deployment, found, paused=paused)
    output.result(f"the rollout is paused at {found.current}" if paused else "the rollout continues")
