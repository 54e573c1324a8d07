"""`bisnesctl bots blocked` and `unblock`: WhatsApp Web numbers that are kept from starting."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.cli.app import AnyCompany, TheCompany, ThePhone, example
from bisnesctl.cli.bots import bots

if TYPE_CHECKING:
    from bisnesctl.bots.web_sessions import Session


@bots.command(epilog=example("bisnesctl bots blocked", "bisnesctl bots blocked --json"))
def blocked(
    company: AnyCompany = None,
    json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
) -> None:
    """Show the WhatsApp Web numbers that are not started, why, and until when."""
    from bisnesctl.bots import web_sessions
    from bisnesctl.lifecycle import database_setup
    from bisnesctl.settings import load
    from bisnesctl.terminal import output

    with database_setup.connected(load()) as connection:
        found = [each for each in web_sessions.find(connection, company) if each.block]
    output.print_found(found, json, _show, "no WhatsApp Web number is blocked")


@bots.command(epilog=example("bisnesctl bots unblock 0128 1", "bisnesctl bots unblock 0128 1 --new-number"))
def unblock(
    company: TheCompany,
    phone: ThePhone = 0,
    new_number: Annotated[
        bool,
        typer.Option("--new-number", help="Let a phone with another number be linked; what waits leaves from it."),
    ] = False,
) -> None:
    """End a number's block and have its session started, once the cause is gone.

    One that was logged out on the phone shows a QR code then: `bisnesctl bots link`.
    """
    from bisnesctl.bots import web_sessions
    from bisnesctl.lifecycle import database_setup
    from bisnesctl.settings import load
    from bisnesctl.terminal import output

    with database_setup.connected(load()) as connection:
        session = web_sessions.find_one(connection, company, phone)
        if new_number:
            web_sessions.release_number(connection, session.bot_id, with_queue=True)
        web_sessions.unblock(connection, session)
    what = "unblocked" if session.block else "was not blocked:"
    output.say(f"bot {phone} of company {company} {what}; its session is started, see `bisnesctl bots list`")


def _show(found: "list[Session]") -> None:
    from rich.markup import escape

    from bisnesctl.terminal import output

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
