"""`bisnesctl render`: supervisord's configuration, without a start."""

from pathlib import Path
from typing import Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import SETUP, app, checked_deployment, example


@app.command(rich_help_panel=SETUP, epilog=example("bisnesctl render", "bisnesctl render --out /tmp/look"))
@changes
def render(
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files (default: the folder that `start` uses).")
    ] = None,
) -> None:
    """Write supervisord's configuration without starting anything."""
    from bisnesctl.processes import embedded_servers
    from bisnesctl.processes.deployment import make_folders
    from bisnesctl.processes.render import write_config
    from bisnesctl.terminal import output

    deployment = checked_deployment()
    settings = deployment.settings
    if out is None:
        make_folders(settings)
    variables = embedded_servers.command_variables(settings)
    for path in write_config(settings, deployment.instances, out or settings.run_dir, variables):
        output.result(str(path))
