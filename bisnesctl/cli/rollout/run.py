"""`bisnesctl rollout run`: all steps, by itself."""

from typing import Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import checked_deployment, example
from bisnesctl.cli.rollout.group import First, OfType, ToSide, begin, drive, moved, rollout, show_end
from bisnesctl.errors import Unhealthy


@rollout.command(
    epilog=example(
        "bisnesctl rollout run '10%:10m,50%:30m,100%'",
        "bisnesctl rollout run --type meta --detach '10%:10m,50%:30m,100%'",
    )
)
@changes
def run(
    steps: Annotated[str, typer.Argument(metavar="STEPS", help="Such as '10%:10m,50%:30m,100%'.", show_default=False)],
    channel: OfType = None,
    to: ToSide = None,
    first: First = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once the bots of the first step have moved.")
    ] = False,
) -> None:
    """Move all bots in steps: each share moves and is watched for its time.

    It advances while the verdict is a pass, waits while there is not enough data, and goes back by itself if the moved
    bots do worse. It continues if this command is ended; `rollout pause` and `rollout abort` stop it.
    """
    from bisnesctl.rollout import plan
    from bisnesctl.rollout.driver import never
    from bisnesctl.rollout.state import Phase

    shares = plan.parse_steps(steps)
    deployment = checked_deployment()
    begin(deployment, channel, to, first, shares, automatic=True)
    ended = drive(deployment, moved if detach else never)
    show_end(ended)
    if ended is not None and ended.phase in (Phase.BACK, Phase.UNDONE):
        raise Unhealthy(f"the rollout went back: {ended.reason}")
