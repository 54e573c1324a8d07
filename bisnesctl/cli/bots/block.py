"""`bisnesctl bots blocked` and `unblock`: WhatsApp Web sessions that are not started."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes, reads
from bisnesctl.cli.app import AnyCompany, AsJson, TheCompany, ThePhone, example, usable_settings
from bisnesctl.cli.bots.group import bots

if TYPE_CHECKING:
    from bisnesctl.bots.web_sessions import WebSession


@bots.command(epilog=example("bisnesctl bots blocked", "bisnesctl bots blocked --json"))
@reads
def blocked(company: AnyCompany = None, json: AsJson = False) -> None:
    """List the WhatsApp Web bots whose sessions are blocked, with the reason and the end of each block."""
    from bisnesctl.bots import web_sessions
    from bisnesctl.database import postgres
    from bisnesctl.terminal import output

    with postgres.command_connection(usable_settings()) as connection:
        found = [each for each in web_sessions.find(connection, company) if each.block]
    output.print_found(found, json, _show, "no WhatsApp Web bot is blocked")


@bots.command(epilog=example("bisnesctl bots unblock 0128 1", "bisnesctl bots unblock 0128 1 --new-number"))
@changes
def unblock(
    company: TheCompany,
    phone: ThePhone = 0,
    new_number: Annotated[
        bool,
        typer.Option("--new-number", help="Allow another phone number to be linked; it sends the messages that wait."),
    ] = False,
) -> None:
    """Lift a block and start the session, once the cause of the block is gone.

    A session that was logged out on the phone shows a QR code then: `bisnesctl bots link`.
    """
    from bisnesctl.bots import web_sessions
    from bisnesctl.database import postgres
    from bisnesctl.terminal import output

    with postgres.command_connection(usable_settings()) as connection:
        session = web_sessions.find_one(connection, company, phone)
        if new_number:
            web_sessions.release_number(connection, session.bot_id, with_queue=True)
        web_sessions.unblock(connection, session)
    result = "unblocked" if session.block else "was not blocked"
    output.say(f"bot {phone} of company {company} {result}; its session is starting, see `bisnesctl bots list`")


def _show(found: "list[WebSession]") -> None:
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    columns = [
        output.Column("company"),
        output.Column("phone", "right"),
        output.Column("kind", from_width=70),
        output.Column("blocked", wraps=True),
        output.Column("reason", wraps=True),
    ]
    rows = [
        [escape(each.company), str(each.phone), each.block.kind, each.block.end, escape(each.block.reason)]
        for each in found
        if each.block
    ]
    output.print_table(columns, rows)
