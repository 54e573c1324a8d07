"""`bisnesctl rollout drive`: continues a rollout whose command has ended. The program `alerts` starts it."""

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import running_deployment
from bisnesctl.cli.rollout.group import drive as drive_until
from bisnesctl.cli.rollout.group import rollout


@rollout.command(hidden=True)
@changes
def drive() -> None:
    """Drive the rollout that is under way until it ends. The program `alerts` starts this if nothing else drives it."""
    from bisnesctl.rollout import duty
    from bisnesctl.rollout.driver import never

    deployment = running_deployment()
    if not duty.is_worked_on(deployment.settings.run_dir, duty.MOVING):
        drive_until(deployment, never)
