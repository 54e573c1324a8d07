"""`bisnesctl reload`: the release and the settings on the disk, without an interruption."""

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import (
    RUN,
    Bots,
    Companies,
    DryRun,
    Kinds,
    Names,
    States,
    Yes,
    app,
    checked_deployment,
    example,
    find_chosen,
    selection_of,
)


@app.command(
    rich_help_panel=RUN,
    epilog=example(
        "bisnesctl reload", "bisnesctl reload api meta", "bisnesctl reload --kind sessions --state outdated"
    ),
)
@changes
def reload(
    names: Names = None,
    company: Companies = None,
    bot: Bots = None,
    kind: Kinds = None,
    state: States = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Replace what runs by the release and the settings on the disk. No request is refused meanwhile.

    First each program passes a self-test of its own. If one fails, nothing is touched. Then the instances are restarted
    in turn; each must be healthy before the next one stops. If one fails, the reload ends there, and the others run as
    before. The command says what the reload of each program costs. Type it again if it failed or was interrupted.

    Without names it means `all`, which leaves out the guard, the embedded servers and the sandbox; type their names, or
    `--kind infrastructure`. Instances that an operator stopped stay stopped, unless they are named.
    """
    from bisnesctl.lifecycle import reload as reloads
    from bisnesctl.lifecycle.relatives import still_stopped
    from bisnesctl.lifecycle.targets import check_own
    from bisnesctl.processes.selection import EVERYTHING
    from bisnesctl.terminal import preview

    selection = selection_of(names, company, bot, kind, state)
    if selection.is_empty:
        selection = selection_of([EVERYTHING])
    deployment = checked_deployment()
    targets = find_chosen(deployment, selection)
    check_own(deployment, selection, targets.chosen)
    if preview.confirm("reload", selection, targets, yes, dry_run):
        command = f"reload {selection}"
        with deployment.lock(command, report=preview.remark):
            reloads.reload(deployment, targets.chosen, selection.names, command, preview.report)
        preview.report("reloaded: everything runs the release and the settings on the disk")
        preview.remark(still_stopped(deployment, targets.chosen))
