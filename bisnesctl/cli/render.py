"""`bisnesctl render`: configuration files, without a start."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes_if
from bisnesctl.cli.app import SETUP, app, checked_deployment, example

if TYPE_CHECKING:
    from bisnesctl.settings import Settings


@app.command(
    rich_help_panel=SETUP,
    epilog=example("bisnesctl render", "bisnesctl render --out /tmp/look", "bisnesctl render --nginx"),
)
@changes_if(lambda given: given["out"] or not given["nginx"])
def render(
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files (default: the folder that `start` uses).")
    ] = None,
    nginx: Annotated[
        bool, typer.Option("--nginx", help="Print the configuration of nginx instead, or write it to the folder.")
    ] = False,
) -> None:
    """Write supervisord's configuration without starting anything, or that of a reverse proxy."""
    from bisnesctl.processes import embedded_servers
    from bisnesctl.processes.deployment import make_folders
    from bisnesctl.processes.render import write_config
    from bisnesctl.terminal import output

    deployment = checked_deployment()
    settings = deployment.settings
    if nginx:
        _render_nginx(settings, out)
        return
    if out is None:
        make_folders(settings)
    variables = embedded_servers.command_variables(settings)
    for path in write_config(settings, deployment.instances, out or settings.run_dir, variables):
        output.result(str(path))


def _render_nginx(settings: "Settings", out: Path | None) -> None:
    from bisnesctl.host import disk
    from bisnesctl.processes.nginx import render_nginx
    from bisnesctl.terminal import output

    file = render_nginx(settings)
    if out is None:
        output.result(file.content.rstrip())
    else:
        with disk.writing(out):
            out.mkdir(parents=True, exist_ok=True)
        output.result(str(file.write(out)))
    if not settings.trusted_proxies:
        output.warn(f"{settings.where('trusted_proxies')} is empty: set it to the address from which nginx connects")
