"""`bisnesctl bots`: the numbers that send."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.cli.app import USE, AnyCompany, Company, Phone, app, example
from bisnesctl.errors import UsageError

if TYPE_CHECKING:
    from bisnesctl.bots import Bot

bots = typer.Typer(no_args_is_help=True, help="Add, list and remove the numbers that send.")
app.add_typer(bots, name="bots", rich_help_panel=USE)


class BotType(StrEnum):
    """How a number is reached."""

    META_DIRECT = "meta_direct"
    META_EMBEDDED = "meta_embedded"
    DIALOG360 = "360dialog"
    WWEBJS = "wwebjs"


@bots.command(
    epilog=example(
        "bisnesctl bots add --company 0128 --phone-number-id 106540352242922 --token-stdin <token.txt",
        "bisnesctl bots add --company 0128 --phone 1 --type 360dialog --token-stdin <key.txt",
    )
)
def add(
    company: Company,
    phone: Phone = 0,
    kind: Annotated[
        BotType | None, typer.Option("--type", help="How the number is reached (a new one: meta_direct).")
    ] = None,
    phone_number_id: Annotated[str | None, typer.Option(metavar="ID", help="The number's id in Meta's API.")] = None,
    waba_id: Annotated[str | None, typer.Option(metavar="ID", help="The id of Meta's business account.")] = None,
    display_number: Annotated[str | None, typer.Option(metavar="NUMBER", help="How people know the number.")] = None,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read Meta's access token (360dialog: the API key) from the input.")
    ] = False,
) -> None:
    """Add a number, or change one: what is not named stays as it is.

    The token is stored encrypted under ENCRYPTION_KEY. A number that was held, because its token had expired, say,
    goes on with what waits for it.
    """
    from bisnesctl import bots as store
    from bisnesctl import checks, database, output
    from bisnesctl.settings import load

    settings = load()
    checks.check_secrets(settings)
    token = _read_token() if token_stdin else None
    bot = store.NewBot(company, phone, kind and kind.value, phone_number_id, waba_id, display_number, token)
    with database.connected(settings) as connection:
        new = store.save(connection, bot, settings.encryption_key.get_secret_value())
    output.say(f"{'added' if new else 'changed'} bot {phone} of company {company}")


@bots.command("list", epilog=example("bisnesctl bots list", "bisnesctl bots list --company 0128 --json"))
def list_bots(
    company: AnyCompany = None,
    json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
) -> None:
    """Show the numbers, how many messages wait for each, and what holds it."""
    from bisnesctl import bots as store
    from bisnesctl import database, output
    from bisnesctl.settings import load

    with database.connected(load()) as connection:
        found = store.find(connection, company)
    output.print_found(
        found, json, _show, "there are no bots yet: [b]bisnesctl bots add --help[/] shows how to add one"
    )


@bots.command(epilog=example("bisnesctl bots remove --company 0128 --phone 1"))
def remove(
    company: Company,
    phone: Phone = 0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Give up the messages that wait for it.")] = False,
) -> None:
    """Remove a number and its credentials. Its messages stay readable; those that still wait fail, with --force."""
    from bisnesctl import bots as store
    from bisnesctl import database, output
    from bisnesctl.settings import load

    with database.connected(load()) as connection:
        left = store.waiting(connection, company, phone)
        lost = f" and give up {left} messages" if left and force else ""
        if not yes and not typer.confirm(f"Remove bot {phone} of company {company}{lost}?", err=True):
            raise typer.Exit(1)
        failed = store.remove(connection, company, phone, force)
    gave_up = f"; gave up {failed} messages" if failed else ""
    output.say(f"removed bot {phone} of company {company}{gave_up}")


def _read_token() -> str:
    import getpass
    import sys

    text = getpass.getpass("Token: ") if sys.stdin.isatty() else sys.stdin.read()
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError("the token on the standard input must be one word, such as EAAG…")
    return token


def _show(found: "list[Bot]") -> None:
    from bisnesctl import output

    columns = [
        output.Column("company"),
        output.Column("phone", "right"),
        output.Column("type"),
        output.Column("process", from_width=100),
        output.Column("status"),
        output.Column("number", from_width=90),
        output.Column("number id", from_width=110),
        output.Column("waiting", "right"),
        output.Column("held", wraps=True),
    ]
    output.print_table(columns, [_cells(each) for each in found])


def _cells(bot: "Bot") -> list[str]:
    from rich.markup import escape

    return [
        escape(bot.company),
        str(bot.phone),
        bot.type,
        bot.process,
        escape(bot.status),
        escape(bot.display_number or "-"),
        escape(bot.phone_number_id or "-"),
        str(bot.waiting),
        _held(bot),
    ]


def _held(bot: "Bot") -> str:
    from rich.markup import escape

    if bot.held_until is None:
        return "-"
    until = "until you act (`bots add`)" if bot.held_until == "infinity" else f"until {bot.held_until}"
    return f"[yellow]{until}[/]: {escape(bot.held_reason or 'no reason given')}"
