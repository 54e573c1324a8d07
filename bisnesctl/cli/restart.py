"""`bisnesctl restart`: some instances, one after the other."""

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
        "bisnesctl restart api",
        "bisnesctl restart meta-worker-2",
        "bisnesctl restart all",
        "bisnesctl restart --bot 0128-2",
        "bisnesctl restart --kind sessions --state failed",
    ),
)
@changes
def restart(
    names: Names = None,
    company: Companies = None,
    bot: Bots = None,
    kind: Kinds = None,
    state: States = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Restart programs with the current settings. Each instance is healthy again before the next one stops.

    `all` and selectors leave out the guard, the embedded servers and the sandbox; type their names, or
    `--kind infrastructure`. `bisnesctl reload` proves first that the instances can start.
    """
    from bisnesctl.lifecycle.relatives import still_stopped
    from bisnesctl.lifecycle.restart import restart as restart_in_turn
    from bisnesctl.lifecycle.targets import check_own
    from bisnesctl.terminal import preview

    selection = selection_of(names, company, bot, kind, state)
    deployment = checked_deployment()
    targets = find_chosen(deployment, selection)
    check_own(deployment, selection, targets.chosen)
    if preview.confirm("restart", selection, targets, yes, dry_run):
        with deployment.lock(f"restart {selection}", report=preview.remark):
            restart_in_turn(deployment, targets.chosen, f"restart {selection}", preview.report)
        preview.remark(still_stopped(deployment, targets.chosen))
