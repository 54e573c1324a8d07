"""`bisnesctl send`: sends one message through the HTTP API."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import sends
from bisnesctl.cli.app import USE, AsJson, Company, Phone, app, example, usable_deployment
from bisnesctl.errors import BisnesError

if TYPE_CHECKING:
    from bisnesctl.clients.api_client import SendAnswer


def _printable(text: str | None) -> str | None:
    if text is not None and not (text.strip() and text.isascii() and text.isprintable()):
        raise typer.BadParameter("it is sent as an HTTP header: use printable ASCII characters")
    return text


@app.command(
    rich_help_panel=USE,
    epilog=example(
        "bisnesctl send --company 0128 --to 60123456789 --text Hello --wait",
        "bisnesctl send --company 0128 --to 60123456789 --text 'Order 17 is ready' --idempotency-key order-17 --json",
        "BISNES_API_KEY=bk_… bisnesctl send --company 0128 --phone 1 --to +60123456789 --text Hello",
    ),
)
@sends
def send(
    company: Company,
    to: Annotated[str, typer.Option(metavar="CHAT", help="A phone number in international form, or a chat id.")],
    text: Annotated[str, typer.Option(help="The text, at most 4096 characters.")],
    phone: Phone = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the message was sent or refused.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=30, metavar="SECONDS", help="How long to wait with --wait.")
    ] = 30,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="Retrying with the same key does not send the message twice.", callback=_printable
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Send a text through the HTTP API and print its id and status.

    The API key is $BISNES_API_KEY, or OPERATOR_KEY of `.env`. An accepted message is sent even if this command does not
    wait for it. With `--wait` the exit code shows whether the provider accepted it.
    """
    from bisnesctl.clients.api_client import SENT_STATUSES, ApiClient, api_key, api_url
    from bisnesctl.terminal import output

    deployment = usable_deployment()
    client = ApiClient(api_url(deployment.settings, deployment.mode), api_key(deployment.settings))
    answer = client.send_text(company, phone, to, text, timeout if wait else 0, idempotency_key)
    if json:
        fields = {"messageId": answer.message_id, "status": answer.status, "error": answer.error}
        output.print_json(fields | {"hold": answer.hold})
    else:
        output.result(f"{answer.message_id} {answer.status}")
    if answer.error is not None:
        raise BisnesError(_failed(answer))
    if wait and answer.status not in SENT_STATUSES:
        raise BisnesError(_pending(answer, timeout))


def _failed(answer: "SendAnswer") -> str:
    from bisnesctl.database.transient_errors import is_transient

    if is_transient(answer.provider_code, answer.error):
        return f"the message failed: {answer.error}; to retry: `bisnesctl dead-letters retry {answer.message_id}`"
    return f"the provider refused the message permanently: {answer.error}"


def _pending(answer: "SendAnswer", timeout: float) -> str:
    status, hold = answer.status, answer.hold
    if status == "unknown":
        return "it may have been sent and is not resent; a status report of the provider will update its status"
    if hold is None:
        return (
            f"it is still {status} after {timeout:g} s and stays queued: `bisnesctl bots list` shows why the bot waits"
        )
    if hold["needsOperator"]:
        return f"it waits until an operator acts: {hold['reason']} (`bisnesctl bots list`)"
    cause = f"the provider is unavailable since {hold['since']}" if hold["since"] else "the bot pauses"
    return f"it waits and will be sent automatically: {cause}: {hold['reason']}"
