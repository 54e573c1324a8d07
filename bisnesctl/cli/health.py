"""`bisnesctl health`: the verdict, for people, programs and monitoring."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import WATCH, AsJson, app, example, usable_deployment
from bisnesctl.errors import BisnesError, ExitCode

if TYPE_CHECKING:
    from bisnesctl.health.verdict import HealthFinding


@app.command(
    rich_help_panel=WATCH,
    epilog=example(
        "bisnesctl health",
        "bisnesctl health --probe",
        "*/5 * * * * cd /srv/bisnes && .venv/bin/bisnesctl health --probe 2>&1 | logger -t bisnesctl",
    ),
)
@reads
def health(
    json: AsJson = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Print one line; exit with the code of a monitoring plugin.")
    ] = False,
) -> None:
    """Check every process, PostgreSQL, Redis and the disks, and list the bots that need an operator.

    The exit code is 0 if everything is healthy, otherwise 5. With `--probe`: 0 OK, 1 warning, 2 critical, 3 unknown.
    """
    if probe:
        raise typer.Exit(_probe())
    from bisnesctl.health.verdict import Verdict, examine, examine_bots, examine_disks, examine_settings, judge
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    deployment = usable_deployment()
    processes, bots, disks = examine(deployment), examine_bots(deployment), examine_disks(deployment)
    settings = examine_settings(deployment)
    verdict = judge([*processes, *disks, *settings, *bots])
    if json:
        groups = {"processes": processes, "disks": disks, "settings": settings, "bots": bots}
        shown = {name: [_plain(each) for each in group] for name, group in groups.items()}
        output.print_json({"verdict": verdict.name.lower(), **shown})
    elif processes:
        _show([*processes, *disks, *settings, *bots])
    else:
        output.say(f"nothing was started in {escape(str(deployment.settings.home))} yet")
    raise typer.Exit(ExitCode.OK if verdict is Verdict.OK else ExitCode.UNHEALTHY)


def _probe() -> int:
    from bisnesctl.health.verdict import (
        Verdict,
        examine,
        examine_bots,
        examine_disks,
        examine_settings,
        in_one_line,
        judge,
    )
    from bisnesctl.terminal import output

    try:
        deployment = usable_deployment()
        findings = [*examine(deployment), *examine_disks(deployment), *examine_settings(deployment)]
        findings += examine_bots(deployment)
    except (BisnesError, OSError) as error:
        output.result(f"BISNES UNKNOWN - {' '.join(str(error).split())}")
        return int(Verdict.UNKNOWN)
    output.result(in_one_line(findings))
    return int(judge(findings))


def _plain(finding: "HealthFinding") -> dict[str, str]:
    return {"name": finding.name, "status": finding.health.status.value, "reason": finding.health.reason}


def _show(findings: "list[HealthFinding]") -> None:
    from bisnesctl.health.verdict import Verdict
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    colours = {Verdict.OK: "green", Verdict.WARNING: "yellow"}
    columns = [output.Column("name"), output.Column("health"), output.Column("reason", wraps=True)]
    rows = [
        (each.name, f"[{colours.get(each.verdict, 'red')}]{each.health.status}[/]", escape(each.health.reason))
        for each in findings
    ]
    output.print_table(columns, rows)
