"""`bisnesctl bots verify`: checks the bots with their providers."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import AnyCompany, AsJson, example, usable_deployment
from bisnesctl.cli.bots.group import bots
from bisnesctl.errors import ExitCode

if TYPE_CHECKING:
    from bisnesctl.bots.checks import CheckedBot


@bots.command(epilog=example("bisnesctl bots verify", "bisnesctl bots verify --company 0128 --phone 0 --json"))
@reads
def verify(
    company: AnyCompany = None,
    phone: Annotated[int | None, typer.Option(min=0, metavar="INDEX", help="Only this bot of the company.")] = None,
    json: AsJson = False,
) -> None:
    """Ask Meta and 360dialog for the state of the bots: quality, whether they can send, tokens and webhooks.

    The exit code is 0 if there is no problem, otherwise 5. Workers run the same check every BOT_CHECK_MINUTES.
    """
    from bisnesctl.bots import checks
    from bisnesctl.database import postgres
    from bisnesctl.lifecycle import preflight
    from bisnesctl.terminal import output

    settings = usable_deployment().settings
    preflight.check_secrets(settings)
    found = checks.check(lambda: postgres.command_connection(settings), settings, company, phone)
    if json:
        output.print_json([each.plain() for each in found])
    elif found:
        _show(found)
    else:
        output.say("there are no Meta or 360dialog bots yet: [b]bisnesctl bots add --help[/] shows how to add one")
    raise typer.Exit(ExitCode.UNHEALTHY if any(each.problems for each in found) else ExitCode.OK)


def _show(found: "list[CheckedBot]") -> None:
    from bisnesctl.bots.provider_report import Level
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

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
    output.print_table(columns, [[escape(cell) for cell in _cells(each)] for each in found])
    for each in found:
        for problem in each.problems:
            colour = "red" if problem.level is Level.ERROR else "yellow"
            output.out().print(f"[{colour}]{problem.level}[/] {escape(f'{each.name}: {problem}')}", soft_wrap=True)


def _cells(checked: "CheckedBot") -> list[str]:
    from bisnesctl.bots.provider_report import expiry_date

    report = checked.report
    webhooks = {True: "yes", False: "no", None: "-"}[report.subscribed]
    return [
        checked.name,
        report.display_number or "-",
        report.name or "-",
        report.can_send or "-",
        report.quality or "-",
        report.throughput or "-",
        expiry_date(report.token_expires_at),
        webhooks,
    ]
