"""`bisnesctl sandbox`: speaks with the simulators."""

from pathlib import Path
from typing import Annotated

import typer

from bisnesctl.cli.app import USE, Phone, app, example

sandbox = typer.Typer(no_args_is_help=True, help="Speak as a customer of a business in the sandbox.")
app.add_typer(sandbox, name="sandbox", rich_help_panel=USE)


@sandbox.callback()
def root() -> None:
    """Speak as a customer of a business in the sandbox."""


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
        str | None, typer.Option(metavar="ID", help="The number: its phone number id, or its key of 360dialog.")
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
        str | None, typer.Option("--type", help="Such as location, contacts, order, edit, revoke; else it is guessed.")
    ] = None,
    content: Annotated[
        str | None, typer.Option(metavar="JSON", help="What the webhook has under the type's name.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="Say it so often, numbered.")] = 1,
    echo: Annotated[bool, typer.Option("--echo", help="The business itself says it, with its own phone.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
) -> None:
    """Say something as a customer, and print the message's id.

    The number is that of --to, or of --company and --phone, or that of the quickstart. What was said goes to it as a
    signed webhook, as from Meta.
    """
    from bisnesctl import output, sandboxclient
    from bisnesctl.settings import load

    settings = load()
    fields = {
        "to": to or _number(company, phone), "from": None if user_id else sender, "user_id": user_id, "name": name,
        "text": text, "voice": voice, "button": button, "emoji": reaction, "message_id": about, "reply_to": reply_to,
        "type": kind, "content": content, "count": count, "echo": echo,
    }  # fmt: skip
    ids = sandboxclient.say(settings.sandbox_port, fields, file)
    if json:
        output.print_json({"ids": ids})
    else:
        output.result("\n".join(ids))


def _number(company: str | None, phone: int) -> str:
    from bisnesctl import database, sandboxclient
    from bisnesctl.settings import load

    if company is None:
        return sandboxclient.DEMO_NUMBER
    settings = load()
    with database.connected(settings) as connection:
        return sandboxclient.number_of(connection, company, phone, settings.encryption_key.get_secret_value())
