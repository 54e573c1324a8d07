"""`bisnesctl release install`: another release beside those that are there."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import example, usable_settings
from bisnesctl.cli.release.group import release

if TYPE_CHECKING:
    from bisnesctl.processes.deployment import Deployment


@release.command(
    epilog=example(
        "bisnesctl release install ../bisnesctl-0.2.0",
        "bisnesctl release install dist/bisnesctl-0.2.0-py3-none-any.whl",
        "bisnesctl release install 0.2.0",
    )
)
@changes
def install(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            show_default=False,
            help="The folder of a checkout, a wheel, an sdist, or a version in the index that pip uses.",
        ),
    ],
    extra: Annotated[
        list[str] | None,
        typer.Option(
            "--extra",
            metavar="NAME",
            help="An optional group of packages: embedded, s3. Default: those of this Python.",
        ),
    ] = None,
) -> None:
    """Install a release into a virtual environment of its own, `releases/NUMBER` below the home.

    Nothing that runs is touched. A release has a list of the packages that it was tested with; exactly these are
    installed, and `lock.txt` in its folder names them with their hashes. `release switch` runs it.
    """
    from bisnesctl.processes.deployment import as_started, open_deployment
    from bisnesctl.releases import actions
    from bisnesctl.releases.install import own_extras
    from bisnesctl.terminal import output, preview
    from bisnesctl.terminal.output import escape

    deployment = open_deployment(as_started(usable_settings()))
    made = actions.add(deployment, source, own_extras() if extra is None else extra, preview.remark)
    output.say(f"[green]✓[/] installed {escape(made.name)} in {escape(str(made.folder))}")
    output.say(f"to run it: [b]bisnesctl release switch {made.number}[/]")
    if not _has_current(deployment):
        _explain_the_way(deployment)


def _has_current(deployment: "Deployment") -> bool:
    from bisnesctl import paths

    return paths.current_release(deployment.settings.home).exists()


def _explain_the_way(deployment: "Deployment") -> None:
    """Says what changes with the first release, since a checkout ran in place so far."""
    from bisnesctl import paths
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    program = paths.current_release(deployment.settings.home) / "bin" / "bisnesctl"
    for line in (
        "so far a checkout runs in place, which stays possible; it is release 0 in `bisnesctl release list`",
        "after the switch, changes of the checkout have no effect here; its `bisnesctl` runs the current release",
        f"so that the checkout is not needed any more: cd /usr/local/bin && ln -s {program}",
        "then write what starts at boot and by cron again: `bisnesctl startup`, `bisnesctl cron install`",
    ):
        output.say(f"  {escape(line)}")
