"""`bisnesctl bots move`: takes WhatsApp Web numbers over from the former server."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import example, usable_settings
from bisnesctl.cli.bots.group import bots
from bisnesctl.errors import UsageError

if TYPE_CHECKING:
    from bisnesctl.bots.web_sessions import WebSession
    from bisnesctl.database.postgres import Connection


@bots.command(
    epilog=example(
        "bisnesctl bots move 0128 1",
        "bisnesctl bots move 0128 --all",
        "bisnesctl bots move --all",
        "bisnesctl bots move 0128 1 --back",
    )
)
@changes
def move(
    company: Annotated[str | None, typer.Argument(metavar="COMPANY", help="The company, such as 0128.")] = None,
    phone: Annotated[
        int | None, typer.Argument(min=0, metavar="PHONE", help="The bot's phone index within the company.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All numbers, of the company or of all companies.")] = False,
    back: Annotated[
        bool, typer.Option("--back", help="Stop the session here: the former server runs it again.")
    ] = False,
) -> None:
    """Move WhatsApp Web numbers from the former server to this one, once they are stopped there.

    Numbers that were in the database before the first `bisnesctl migrate` may still run on the former server. No
    browser is opened for them, and their status is not changed, until they are moved. Then link them again:
    `bisnesctl bots link`.
    """
    from bisnesctl.bots import web_sessions
    from bisnesctl.database import postgres
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    if every == (phone is not None) or (company is None and not every):
        raise UsageError("name one number (`bisnesctl bots move 0128 1`), or `--all`")
    with postgres.command_connection(usable_settings()) as connection:
        found = _chosen(connection, company, phone, back)
        for session in found:
            (web_sessions.move_back if back else web_sessions.move)(connection, session)
            name = f"bot {session.phone} of company {escape(session.company)}"
            if back:
                output.say(f"{name}: its session stops here")
            else:
                output.say(f"{name} is moved; next: `bisnesctl bots link {escape(session.company)} {session.phone}`")
    if not found:
        output.say("no number is here that could be moved back" if back else "all numbers are moved already")


def _chosen(connection: "Connection", company: str | None, phone: int | None, back: bool) -> "list[WebSession]":
    """The named numbers that are not where they should be."""
    from bisnesctl.bots import web_sessions

    if company is not None and phone is not None:
        named = [web_sessions.find_one(connection, company, phone)]
    else:
        named = web_sessions.find(connection, company)
    return [each for each in named if each.moved == back]
