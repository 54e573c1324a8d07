"""`bisnesctl rollout status`: where the rollout is, why, and what comes next."""

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import AsJson, example, usable_deployment
from bisnesctl.cli.rollout.group import rollout


@rollout.command(epilog=example("bisnesctl rollout status", "bisnesctl rollout status --json"))
@reads
def status(as_json: AsJson = False) -> None:
    """Show the rollout that is under way, or the last one: bots of each side, the verdict, what comes next, what to
    type.
    """
    from bisnesctl.rollout.overview import overview
    from bisnesctl.terminal import output
    from bisnesctl.terminal.rollout_view import show

    found = overview(usable_deployment())
    if as_json:
        output.print_json(found.as_json())
        return
    show(found)
