"""`bisnesctl sandbox`: speaks with the simulators."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.cli.app import USE, Phone, app, example

if TYPE_CHECKING:
    from bisnesctl.clients.sandbox_client import Listener
    from bisnesctl.settings import Settings

sandbox = typer.Typer(no_args_is_help=True, help="Speak as a customer in the sandbox; scan QR codes.")
app.add_typer(sandbox, name="sandbox", rich_help_panel=USE)


@sandbox.callback()
def root() -> None:
    """Speak as a customer of a business in the sandbox; scan the QR codes of WhatsApp Web."""


@sandbox.command(
    epilog=example(
        "bisnesctl sandbox say Hello",
        "bisnesctl sandbox say --from 60123456789 --company 0128 'Where is my order?' --image photo.jpg",
        "bisnesctl sandbox say --to 100000000000100 --reaction 👍 --about wamid.HBgL",
        'bisnesctl sandbox say --type location --content \'{"latitude": 3.1, "longitude": 101.7}\'',
    )
)
def say(
    text: Annotated[str, typer.Argument(help="What to say, or the caption of the file.")] = "",
    sender: Annotated[str, typer.Option("--from", metavar="NUMBER", help="Who speaks.")] = "60123456789",
    to: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The number: its phone number id, 360dialog's key, or a linked number."),
    ] = None,
    company: Annotated[str | None, typer.Option(metavar="ID", help="The number of this company's, instead.")] = None,
    phone: Phone = 0,
    name: Annotated[str | None, typer.Option(help="The customer's name.")] = None,
    user_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The customer's user id, such as US.1349, instead of the number.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "--image", metavar="FILE", help="A picture, sound, video or document.")
    ] = None,
    voice: Annotated[bool, typer.Option("--voice", help="The sound was spoken into the phone.")] = False,
    button: Annotated[str | None, typer.Option(metavar="TITLE", help="Press this button of a message.")] = None,
    reaction: Annotated[
        str | None, typer.Option(metavar="EMOJI", help="React to --about; empty takes it back.")
    ] = None,
    about: Annotated[
        str | None, typer.Option(metavar="ID", help="The message that a reaction, an edit or a revoke is about.")
    ] = None,
    reply_to: Annotated[str | None, typer.Option(metavar="ID", help="The message that this one answers.")] = None,
    kind: Annotated[
        str | None, typer.Option("--type", help="Such as location, contacts, order, edit, revoke, call; else guessed.")
    ] = None,
    content: Annotated[
        str | None, typer.Option(metavar="JSON", help="What the webhook has under the type's name.")
    ] = None,
    group: Annotated[str | None, typer.Option(metavar="DIGITS", help="In this group (WhatsApp Web).")] = None,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="Say it so often, numbered.")] = 1,
    echo: Annotated[bool, typer.Option("--echo", help="The business itself says it, with its own phone.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
) -> None:
    """Say something as a customer, and print the message's id.

    The number is that of --to, or of --company and --phone, or that of the quickstart. What was said goes to it as a
    signed webhook, as from Meta, or to the page of WhatsApp Web that is linked to it.
    """
    from bisnesctl.clients import sandbox_client
    from bisnesctl.settings import load
    from bisnesctl.terminal import output

    settings = load()
    heard_by = _listener(settings, to, company, phone)
    fields = {
        "to": heard_by.number, "from": None if user_id else sender, "user_id": user_id, "name": name,
        "text": text, "voice": voice, "button": button, "emoji": reaction, "message_id": about, "reply_to": reply_to,
        "type": kind, "content": content, "count": count, "echo": echo, "group": group,
    }  # fmt: skip
    ids = sandbox_client.say(settings.sandbox_port, heard_by.web, fields, file)
    if json:
        output.print_json({"ids": ids})
    else:
        output.result("\n".join(ids))


def _listener(settings: "Settings", to: str | None, company: str | None, phone: int) -> "Listener":
    from bisnesctl.clients import sandbox_client
    from bisnesctl.lifecycle import database_setup

    if to:
        return sandbox_client.listener(settings.sandbox_port, to)
    if company is None:
        return sandbox_client.Listener(sandbox_client.DEMO_NUMBER)
    with database_setup.connected(settings) as connection:
        return sandbox_client.number_of(connection, company, phone, settings.encryption_key.get_secret_value())


@sandbox.command(
    epilog=example(
        "bisnesctl sandbox scan 60110000001",
        "bisnesctl sandbox scan --company 0128 --phone 1 60110000001",
        "bisnesctl sandbox scan --code WXYZ-1234",
    )
)
def scan(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="The phone's own number.")] = "60110000001",
    company: Annotated[str | None, typer.Option(metavar="ID", help="Scan the code of this company's bot.")] = None,
    phone: Phone = 0,
    code: Annotated[
        str | None, typer.Option(metavar="CODE", help="Type this pairing code in, on the phone that it was made for.")
    ] = None,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Wait so long for a QR code.")] = 60.0,
) -> None:
    """Scan the QR code of a WhatsApp Web session, as with a phone: the session is linked to the phone's number.

    It is the code of the bot named by --company and --phone, or the only one that is shown.
    """
    from bisnesctl.clients import sandbox_client
    from bisnesctl.settings import load
    from bisnesctl.terminal import output

    settings = load()
    if code:
        device = sandbox_client.pair(settings.sandbox_port, code)
    else:
        device = sandbox_client.scan(settings.sandbox_port, number, lambda: _shown(settings, company, phone), wait)
    output.say("linked; `bisnesctl bots list` shows when the session works")
    output.result(device)


def _shown(settings: "Settings", company: str | None, phone: int) -> str | None:
    from bisnesctl.clients import sandbox_client
    from bisnesctl.lifecycle import database_setup

    if company is None:
        return ""
    with database_setup.connected(settings) as connection:
        return sandbox_client.qr_of(connection, company, phone)
