"""`bisnesctl sandbox`: acts as a customer, or as a phone, at the simulators."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes, sends
from bisnesctl.cli.app import USE, AsJson, Commands, Phone, app, example, usable_settings

if TYPE_CHECKING:
    from bisnesctl.clients.sandbox_client import SandboxNumber
    from bisnesctl.settings import Settings

sandbox = typer.Typer(cls=Commands, no_args_is_help=True, help="Write as a customer in the sandbox; scan QR codes.")
app.add_typer(sandbox, name="sandbox", rich_help_panel=USE)


@sandbox.callback()
def root() -> None:
    """Write to a business as its customer in the sandbox; scan the QR codes of WhatsApp Web."""


@sandbox.command(
    epilog=example(
        "bisnesctl sandbox say Hello",
        "bisnesctl sandbox say --from 60123456789 --company 0128 'Where is my order?' --image photo.jpg",
        "bisnesctl sandbox say --to 100000000000100 --reaction 👍 --about wamid.HBgL",
        'bisnesctl sandbox say --type location --content \'{"latitude": 3.1, "longitude": 101.7}\'',
    )
)
@sends
def say(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text, or the caption of the file.")] = "",
    sender: Annotated[
        str, typer.Option("--from", metavar="NUMBER", help="The customer's phone number.")
    ] = "60123456789",
    to: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The recipient: a phone number id, a 360dialog key, or a linked phone number."),
    ] = None,
    company: Annotated[
        str | None, typer.Option(metavar="ID", help="The recipient by its company, instead of --to.")
    ] = None,
    phone: Phone = 0,
    name: Annotated[str | None, typer.Option(help="The customer's name.")] = None,
    user_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The customer's user id, such as US.1349, instead of a phone number."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "--image", metavar="FILE", help="An image, audio, video or document.")
    ] = None,
    voice: Annotated[bool, typer.Option("--voice", help="Send the audio as a voice message.")] = False,
    button: Annotated[str | None, typer.Option(metavar="TITLE", help="Press the button with this title.")] = None,
    reaction: Annotated[
        str | None, typer.Option(metavar="EMOJI", help="React to --about with this emoji; empty: remove the reaction.")
    ] = None,
    about: Annotated[str | None, typer.Option(metavar="ID", help="The message to react to, edit or revoke.")] = None,
    reply_to: Annotated[str | None, typer.Option(metavar="ID", help="The message to reply to.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--type",
            help="The type, such as location, contacts, edit, revoke or call (default: from the other options).",
        ),
    ] = None,
    content: Annotated[
        str | None, typer.Option(metavar="JSON", help="The value of the webhook's field of that type.")
    ] = None,
    group: Annotated[str | None, typer.Option(metavar="DIGITS", help="Write in this group (WhatsApp Web).")] = None,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="Send the message N times, numbered.")] = 1,
    echo: Annotated[bool, typer.Option("--echo", help="Send it from the business's own phone.")] = False,
    json: AsJson = False,
) -> None:
    """Send a message as a customer and print its id.

    The recipient is --to, or the bot of --company and --phone, or the number of the quickstart. The message arrives as
    a signed webhook, as from Meta, or in the page of WhatsApp Web that is linked to the number.
    """
    from bisnesctl.clients import sandbox_client
    from bisnesctl.terminal import output

    settings = usable_settings()
    recipient = _recipient(settings, to, company, phone)
    fields = {
        "to": recipient.number, "from": None if user_id else sender, "user_id": user_id, "name": name,
        "text": text, "voice": voice, "button": button, "emoji": reaction, "message_id": about, "reply_to": reply_to,
        "type": kind, "content": content, "count": count, "echo": echo, "group": group,
    }  # fmt: skip
    ids = sandbox_client.say(settings.sandbox_port, recipient.web, fields, file)
    if json:
        output.print_json({"ids": ids})
    else:
        output.result("\n".join(ids))


def _recipient(settings: "Settings", to: str | None, company: str | None, phone: int) -> "SandboxNumber":
    from bisnesctl.clients import sandbox_client
    from bisnesctl.database import postgres

    if to:
        return sandbox_client.find_number(settings.sandbox_port, to)
    if company is None:
        return sandbox_client.SandboxNumber(sandbox_client.DEMO_NUMBER)
    with postgres.command_connection(settings) as connection:
        return sandbox_client.number_of(connection, company, phone, settings.decryption_keys)


@sandbox.command(
    epilog=example(
        "bisnesctl sandbox scan 60110000001",
        "bisnesctl sandbox scan --company 0128 --phone 1 60110000001",
        "bisnesctl sandbox scan --code WXYZ-1234",
    )
)
@changes
def scan(
    number: Annotated[
        str, typer.Argument(metavar="NUMBER", help="The number of the phone that scans.")
    ] = "60110000001",
    company: Annotated[str | None, typer.Option(metavar="ID", help="Scan the code of a bot of this company.")] = None,
    phone: Phone = 0,
    code: Annotated[
        str | None,
        typer.Option(
            metavar="CODE", help="Type this pairing code on the phone that it was made for, instead of scanning."
        ),
    ] = None,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for a QR code.")] = 60.0,
) -> None:
    """Scan the QR code of a WhatsApp Web session with a simulated phone, which links the session to its number.

    The code is that of the bot of --company and --phone, or else the only code that is shown.
    """
    from bisnesctl.clients import sandbox_client
    from bisnesctl.terminal import output

    settings = usable_settings()
    if code:
        device = sandbox_client.pair(settings.sandbox_port, code)
    else:
        device = sandbox_client.scan(settings.sandbox_port, number, lambda: _qr_code(settings, company, phone), wait)
    output.say("linked; `bisnesctl bots list` shows when the session works")
    output.result(device)


def _qr_code(settings: "Settings", company: str | None, phone: int) -> str | None:
    from bisnesctl.clients import sandbox_client
    from bisnesctl.database import postgres

    if company is None:
        return ""
    with postgres.command_connection(settings) as connection:
        return sandbox_client.qr_of(connection, company, phone)
