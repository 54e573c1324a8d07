"""`bisnesctl release switch`: another release, without an interruption."""

from typing import Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import checked_deployment, example
from bisnesctl.cli.release.group import WATCH_SECONDS, Watch, release, report_switched, watch_seconds


@release.command(
    epilog=example("bisnesctl release switch 8", "bisnesctl release switch 8 --watch 10m", "bisnesctl release switch 0")
)
@changes
def switch(
    number: Annotated[
        int,
        typer.Argument(
            metavar="NUMBER", min=0, show_default=False, help="The number of `release list`; 0: the checkout."
        ),
    ],
    watch: Watch = str(WATCH_SECONDS),
) -> None:
    """Run another release. No request is refused meanwhile, and it goes back by itself if the release fails.

    First the release is checked: its packages, the settings, the templates, the migrations, and a self-test of each
    program. If that fails, nothing was touched. Then the database is migrated, which the release before survives, and
    the instances are restarted in turn; each must be healthy before the next one stops. Then the release is watched: a
    process that ends, more failed requests or messages than before, or slow answers bring everything back to the
    release before. At last the guard is restarted, and the link `releases/current` is moved.

    An interruption (Ctrl-C, a lost connection) brings everything back too. After a SIGKILL the guard does it, or the
    next `bisnesctl release`.
    """
    from bisnesctl.releases import actions
    from bisnesctl.releases.live import interruptible
    from bisnesctl.terminal import preview

    seconds = watch_seconds(watch)
    with interruptible():
        now = actions.switch_to(checked_deployment(), number, seconds, preview.remark)
    report_switched(now)
