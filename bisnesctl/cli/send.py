"""`bisnesctl send`: one message, as a front-end would send it."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.cli.app import USE, Company, Phone, app, example
from bisnesctl.errors import BisnesError

if TYPE_CHECKING:
    from bisnesctl.clients.api_client import Answer


def _printable(text: str | None) -> str | None:
    if text is not None and not (text.strip() and text.isascii() and text.isprintable()):
        raise typer.BadParameter("it travels as an HTTP header: printable ASCII characters only")
    return text


@app.command(
    rich_help_panel=USE,
    epilog=example(
        "bisnesctl send --company 0128 --to 60123456789 --text Hello --wait",
        "bisnesctl send --company 0128 --to 60123456789 --text 'Order 17 is ready' --idempotency-key order-17 --json",
        "BISNES_API_KEY=bk_… bisnesctl send --company 0128 --phone 1 --to +60123456789 --text Hello",
    ),
)
def send(
    company: Company,
    to: Annotated[str, typer.Option(metavar="CHAT", help="A number in international form, or a chat id.")],
    text: Annotated[str, typer.Option(help="What to say, at most 4096 characters.")],
    phone: Phone = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it was sent or refused.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, max=30, metavar="SECONDS", help="How long --wait waits.")] = 30,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Sent again under the same key, it is the same message.", callback=_printable),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
) -> None:
    """Send a text through the HTTP API and print its id and status.

    The key is $BISNES_API_KEY, or OPERATOR_KEY of `.env`. A message that was accepted leaves even when this command
    did not wait for it; with `--wait` the exit code tells whether the provider took it.
    """
    from bisnesctl.clients.api_client import TAKEN, ApiClient, api_key, api_url
    from bisnesctl.processes.deployment import open_deployment
    from bisnesctl.terminal import output

    deployment = open_deployment()
    client = ApiClient(api_url(deployment.settings, deployment.mode), api_key(deployment.settings))
    answer = client.send_text(company, phone, to, text, timeout if wait else 0, idempotency_key)
    if json:
        fields = {"messageId": answer.message_id, "status": answer.status, "error": answer.error}
        output.print_json(fields | {"hold": answer.hold})
    else:
        output.result(f"{answer.message_id} {answer.status}")
    if answer.error is not None:
        raise BisnesError(_failed(answer))
    if wait and answer.status not in TAKEN:
        raise BisnesError(_pending(answer, timeout))


def _failed(answer: "Answer") -> str:
    from bisnesctl.database.transient_errors import is_transient

    if is_transient(answer.provider_code, answer.error):
        again = f"`bisnesctl dead-letters retry {answer.message_id}` tries it again"
        return f"the message was given up: {answer.error}; {again}"
    return f"the provider refused the message for good: {answer.error}"


def _pending(answer: "Answer", timeout: float) -> str:
    status, hold = answer.status, answer.hold
    if status == "unknown":
        return "it may have been sent, and is not sent again: the provider's webhook will tell, and change its status"
    if hold is None:
        return f"it is {status} after {timeout:g} s, and kept: `bisnesctl bots list` shows what holds the number"
    if hold["needsOperator"]:
        return f"it waits until somebody acts: {hold['reason']} (`bisnesctl bots list`)"
    since = f"the provider is not available since {hold['since']}" if hold["since"] else "its number pauses"
    return f"it waits, and leaves by itself: {since}: {hold['reason']}"
