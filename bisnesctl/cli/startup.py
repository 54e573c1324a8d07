"""`bisnesctl startup`: the start at boot."""

import os
from typing import Annotated

import typer

from bisnesctl.audit.commands import changes_if
from bisnesctl.cli.app import SETUP, app, example, running_deployment
from bisnesctl.errors import Conflict, UsageError


@app.command(
    rich_help_panel=SETUP,
    epilog=example(
        "sudo bisnesctl startup", "bisnesctl startup --user", "bisnesctl startup --print", "bisnesctl startup --remove"
    ),
)
@changes_if(lambda given: not given["show"])
def startup(
    show: Annotated[bool, typer.Option("--print", help="Only print the unit of systemd.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the unit; what runs continues.")] = False,
    user: Annotated[bool, typer.Option("--user", help="A unit of your own systemd, which needs no root.")] = False,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="The name of the unit, if there are several.")
    ] = "bisnesctl",
) -> None:
    """Start this deployment at boot, and again if supervisord dies, by a unit of systemd.

    The unit starts it as it was started last, as the user whom the folder belongs to. Running processes are left alone.
    Without systemd, the command prints the line of a crontab that does it at boot.
    """
    from bisnesctl.host import systemd
    from bisnesctl.lifecycle import boot_unit
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    deployment = running_deployment()
    unit = boot_unit.make(deployment, user, name)
    if show:
        output.result(unit.text.rstrip("\n"))
        output.say(escape(f"its place is {unit.path}"))
        return
    if remove:
        _check_user(user, "--remove", name)
        unit.remove(lambda text: output.say(escape(text)))
        return
    if not systemd.is_running():
        line = boot_unit.crontab_line(deployment)
        raise Conflict(f"systemd does not run here; to start at boot without it, type `crontab -e` and add: {line}")
    if not deployment.settings.env_file.exists():
        deployment.check_started()
    _check_user(user, "", name)
    unit.install(deployment, lambda text: output.say(escape(text)))


def _check_user(user_unit: bool, option: str, name: str) -> None:
    """Raises `UsageError` if root is needed."""
    if user_unit or os.geteuid() == 0:
        return
    environment = f"BISNES_ENV={os.environ['BISNES_ENV']} " if os.environ.get("BISNES_ENV") else ""
    words = " ".join(["startup", *([option] if option else []), *(["--name", name] if name != "bisnesctl" else [])])
    raise UsageError(
        f"a unit of the machine needs root: `sudo {environment}$(command -v bisnesctl) {words}`; one of your own "
        f"systemd does not: `bisnesctl {words} --user`"
    )
