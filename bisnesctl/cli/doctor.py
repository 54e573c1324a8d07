"""`bisnesctl doctor`: whether the page of WhatsApp Web still has everything that we use."""

from typing import Annotated

import typer

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import WATCH, AsJson, app, example, usable_deployment
from bisnesctl.errors import ExitCode, UsageError


@app.command(rich_help_panel=WATCH, epilog=example("bisnesctl doctor --live 0128/2"))
@reads
def doctor(
    live: Annotated[str, typer.Option("--live", metavar="COMPANY/PHONE", help="The bot whose page is examined.")],
    json: AsJson = False,
) -> None:
    """Examine the page of a running WhatsApp Web session: is wa-js ready, and are all functions present that we use?

    WhatsApp changes its page without notice. The exit code is 0 if nothing is missing, otherwise 5.
    """
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
