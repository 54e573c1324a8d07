"""`bisnesctl doctor`: the conditions of a start or a deploy, or of the page of WhatsApp Web."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import SETUP, AsJson, app, example, usable_deployment
from bisnesctl.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bisnesctl.doctor.runner import Result


@app.command(
    rich_help_panel=SETUP,
    epilog=example(
        "bisnesctl doctor",
        "bisnesctl doctor postgresql redis",
        "bisnesctl doctor --pre-deploy --json",
        "bisnesctl doctor --live 0128/2",
    ),
)
@reads
def doctor(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="CHECK", help="Checks or groups of checks; all by default.")
    ] = None,
    pre_deploy: Annotated[
        bool, typer.Option("--pre-deploy", help="Also demand that what runs is healthy, before it is replaced.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail too, with exit code 5.")] = False,
    live: Annotated[
        str | None,
        typer.Option("--live", metavar="COMPANY/PHONE", help="Examine the page of this bot's session instead."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Check everything that a start needs: settings, packages, servers, browser, machine, network.

    Each finding says what is, what should be, and what to type. All checks run in parallel, even if one fails, and each
    has a deadline. The exit code is 0 without errors, otherwise that of the first error's kind. Nothing is changed.

    With `--live`, the page of a running WhatsApp Web session is examined: WhatsApp changes it without notice. The exit
    code is 0 if wa-js is ready and nothing is missing, otherwise 5.
    """
    if live is not None:
        _examine_page(live, json)
    from bisnesctl.doctor import runner, table
    from bisnesctl.doctor.subject import Subject
    from bisnesctl.processes.deployment import as_started
    from bisnesctl.settings import load_partly
    from bisnesctl.terminal import doctor_view, output

    settings = load_partly()
    checks = table.choose(names or [], pre_deploy)
    results = runner.run(checks, Subject(as_started(settings.with_defaults()), dict(settings.problems)))
    if json:
        output.print_json(doctor_view.plain(results))
    else:
        doctor_view.show(results)
    raise typer.Exit(_exit_code(results, strict))


def _exit_code(results: "Sequence[Result]", strict: bool) -> ExitCode:
    from bisnesctl.doctor import runner
    from bisnesctl.doctor.finding import Level

    code = runner.exit_code(results)
    if code is ExitCode.OK and strict and any(each.finding.level is Level.WARNING for each in results):
        return ExitCode.UNHEALTHY
    return code


def _examine_page(live: str, json: bool) -> None:
    """Examines the page of a session. Raises `typer.Exit`."""
    from bisnesctl.clients.api_client import ApiClient, api_key, api_url
    from bisnesctl.terminal import output
    from bisnesctl.terminal.findings import show

    company, separator, phone = live.rpartition("/")
    if not separator or not company or not phone.isdecimal():
        raise UsageError(f"--live {live}: name a company and a phone index, such as 0128/2")
    deployment = usable_deployment()
    api = ApiClient(api_url(deployment.settings, deployment.mode), api_key(deployment.settings))
    findings = api.examine_session(company, int(phone))
    if json:
        output.print_json(findings)
    else:
        show(f"the page of {company}/{phone}", findings)
    raise typer.Exit(ExitCode.OK if all(each["ok"] for each in findings) else ExitCode.UNHEALTHY)
