"""`bisnesctl release prune`: removes old releases."""

from typing import Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import DryRun, example, usable_settings
from bisnesctl.cli.release.group import release


@release.command(epilog=example("bisnesctl release prune --keep 3", "bisnesctl release prune --dry-run"))
@changes
def prune(
    keep: Annotated[int, typer.Option("--keep", min=0, metavar="N", help="How many of the newest stay.")] = 3,
    dry_run: DryRun = False,
) -> None:
    """Remove old releases from the disk.

    The current one, the previous one, and those from which a process still runs always stay.
    """
    from bisnesctl import formatting
    from bisnesctl.processes.deployment import as_started, open_deployment
    from bisnesctl.releases import actions
    from bisnesctl.terminal import output, preview
    from bisnesctl.terminal.output import escape

    removed = actions.prune(open_deployment(as_started(usable_settings())), keep, dry_run, preview.remark)
    for each in removed:
        output.result(f"{'would remove' if dry_run else 'removed'} {escape(each.name)} ({formatting.size(each.size)})")
    if not removed:
        output.say("nothing to remove")
