"""`bisnesctl bots verify`: how the numbers' providers see them."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.cli.app import AnyCompany, example
from bisnesctl.cli.bots import bots
from bisnesctl.errors import ExitCode

if TYPE_CHECKING:
    from bisnesctl.bots.verification import Finding


@bots.command(epilog=example("bisnesctl bots verify", "bisnesctl bots verify --company 0128 --phone 0 --json"))
def verify(
    company: AnyCompany = None,
    phone: Annotated[int | None, typer.Option(min=0, metavar="INDEX", help="Only this number of the company.")] = None,
    json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
) -> None:
    """Ask Meta and 360dialog how the numbers are: quality, whether they can send, their tokens and webhooks.

    Exit code 0 when all is well and 5 when not. The workers do the same every BOT_CHECK_MINUTES.
    """
    from bisnesctl.bots import verification
    from bisnesctl.cli.bots import running_settings
    from bisnesctl.lifecycle import database_setup, preflight
    from bisnesctl.terminal import output

    settings = running_settings()
    preflight.check_secrets(settings)
    findings = verification.verify(lambda: database_setup.connected(settings), settings, company, phone)
    if json:
        output.print_json([each.plain() for each in findings])
    elif findings:
        _show(findings)
    else:
        output.say("there are no Meta or 360dialog numbers yet: [b]bisnesctl bots add --help[/] shows how to add one")
    raise typer.Exit(ExitCode.UNHEALTHY if any(each.problems for each in findings) else ExitCode.OK)


def _show(findings: "list[Finding]") -> None:
    from rich.markup import escape

    from bisnesctl.bots.diagnosis import Level
    from bisnesctl.terminal import output

    columns = [
        output.Column("bot"),
        output.Column("number", from_width=60),
        output.Column("name", from_width=100),
        output.Column("can send"),
        output.Column("quality"),
        output.Column("throughput", from_width=120),
        output.Column("token until"),
        output.Column("webhooks", from_width=80),
    ]
    output.print_table(columns, [[escape(cell) for cell in _cells(each)] for each in findings])
    for each in findings:
        for problem in each.problems:
            colour = "red" if problem.level is Level.ERROR else "yellow"
            output.out().print(f"[{colour}]{problem.level}[/] {escape(f'{each.name}: {problem}')}", soft_wrap=True)


def _cells(finding: "Finding") -> list[str]:
    from bisnesctl.bots.diagnosis import when

    report = finding.report
    webhooks = {True: "yes", False: "no", None: "-"}[report.subscribed]
    return [
        finding.name,
        report.display_number or "-",
        report.name or "-",
        report.can_send or "-",
        report.quality or "-",
        report.throughput or "-",
        when(report.token_expires_at),
        webhooks,
    ]
