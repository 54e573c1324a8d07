"""`bisnesctl bots`: the numbers that send."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.cli.app import USE, AnyCompany, Company, Phone, app, example
from bisnesctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bisnesctl.bots.linking import Linked
    from bisnesctl.bots.store import Bot
    from bisnesctl.settings import Settings

#: Messages a second that Meta lets a number send and receive, at most ("Throughput").
MAX_RATE = 1000

bots = typer.Typer(no_args_is_help=True, help="Add, verify, list and remove the numbers that send.")
app.add_typer(bots, name="bots", rich_help_panel=USE)


class BotType(StrEnum):
    """How a number is reached."""

    META_DIRECT = "meta_direct"
    META_EMBEDDED = "meta_embedded"
    DIALOG360 = "360dialog"
    WWEBJS = "wwebjs"


def _rate(text: str) -> float:
    """Messages a second; 0 for the channel's setting."""
    import math

    try:
        rate = 0.0 if text == "default" else float(text)
    except ValueError:
        rate = math.nan
    if not 0 <= rate <= MAX_RATE:
        raise typer.BadParameter(f"a number up to {MAX_RATE}, or default")
    return rate


@bots.command(
    epilog=example(
        "bisnesctl bots add --company 0128 --phone-number-id 106540352242922 --waba-id 102290129340398"
        " --token-stdin <token.txt",
        "bisnesctl bots add --company 0128 --phone 1 --type 360dialog --token-stdin <key.txt",
        "bisnesctl bots add --company 0128 --phone 2 --wwebjs",
        "bisnesctl bots add --company 0128 --rate 80",
    )
)
def add(
    company: Company,
    phone: Phone = 0,
    kind: Annotated[
        BotType | None, typer.Option("--type", help="How the number is reached (a new one: meta_direct).")
    ] = None,
    wwebjs: Annotated[bool, typer.Option("--wwebjs", help="A WhatsApp Web number: --type wwebjs.")] = False,
    phone_number_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="The number's id in Meta's API; 360dialog tells its own, WhatsApp Web has none."
        ),
    ] = None,
    waba_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="The id of the business account that the number is in; Meta is asked for it otherwise."
        ),
    ] = None,
    display_number: Annotated[str | None, typer.Option(metavar="NUMBER", help="How people know the number.")] = None,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read Meta's access token (360dialog: the API key) from the input.")
    ] = False,
    pin_stdin: Annotated[
        bool, typer.Option("--pin-stdin", help="Register the number with its PIN, read from the input's next line.")
    ] = False,
    set_webhook: Annotated[
        bool, typer.Option("--set-webhook", help="Have its webhooks sent to PUBLIC_URL, whatever the app's address is.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(parser=_rate, metavar="N", help="Messages a second at most; `default`: the channel's setting."),
    ] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Store it, with the ids as they are typed, without asking its provider.")
    ] = False,
) -> None:
    """Add a number, or change one: what is not named stays as it is.

    Meta or 360dialog is asked first whether the token opens the number and the account has it, and told to send its
    webhooks. The token is
    stored encrypted under ENCRYPTION_KEY. A number that was held, because its token had expired, say, goes on with what
    waits for it.
    """
    from rich.markup import escape

    from bisnesctl.bots import linking
    from bisnesctl.bots.store import NewBot
    from bisnesctl.lifecycle import database_setup, preflight
    from bisnesctl.terminal import output

    settings = running_settings()
    preflight.check_secrets(settings)
    token, pin = _read_secrets(token_stdin, pin_stdin)
    kind = _kind(kind, wwebjs)
    bot = NewBot(company, phone, kind and kind.value, phone_number_id, waba_id, display_number, token, rate)
    wish = linking.LinkOptions(bot, pin=pin, set_webhook=set_webhook, verify=not no_verify)
    linked = linking.link(lambda: database_setup.connected(settings), settings, wish)
    output.say(f"{'added' if linked.new else 'changed'} bot {phone} of company {company}{_named(linked)}")
    for hint in linked.hints:
        output.say(escape(f"next: {hint}"))


@bots.command("list", epilog=example("bisnesctl bots list", "bisnesctl bots list --company 0128 --json"))
def list_bots(
    company: AnyCompany = None,
    json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
) -> None:
    """Show the numbers, how many messages wait for each, and what holds it."""
    from bisnesctl.bots import store
    from bisnesctl.health import guard_status
    from bisnesctl.lifecycle import database_setup
    from bisnesctl.settings import load
    from bisnesctl.terminal import output

    settings = load()
    with database_setup.connected(settings) as connection:
        found = store.find(connection, company)
    hangs = guard_status.hangs(settings.run_dir)
    shown = [_with_hangs(each, hangs) for each in found]
    none = "there are no bots yet: [b]bisnesctl bots add --help[/] shows how to add one"
    output.print_found(shown, json, _show, none)


@bots.command(epilog=example("bisnesctl bots remove --company 0128 --phone 1"))
def remove(
    company: Company,
    phone: Phone = 0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Give up the messages that wait for it.")] = False,
) -> None:
    """Remove a number and its credentials, or its browser's profile.

    Its messages stay readable; those that still wait fail, with --force.
    """
    from bisnesctl.bots import store
    from bisnesctl.lifecycle import database_setup
    from bisnesctl.settings import load
    from bisnesctl.terminal import output

    with database_setup.connected(load()) as connection:
        left = store.waiting(connection, company, phone)
        lost = f" and give up {left} messages" if left and force else ""
        if not yes and not typer.confirm(f"Remove bot {phone} of company {company}{lost}?", err=True):
            raise typer.Exit(1)
        failed = store.remove(connection, company, phone, force)
    gave_up = f"; gave up {failed} messages" if failed else ""
    output.say(f"removed bot {phone} of company {company}{gave_up}")


def _with_hangs(bot: "Bot", hangs: "Mapping[str, str]") -> "Bot":
    """With how often its session hung lately, and why, as the guard of this machine knows."""
    from dataclasses import replace

    from bisnesctl.naming import session_name

    told = hangs.get(session_name(bot.company, bot.phone)) if bot.session else None
    return replace(bot, session_reason="; ".join(filter(None, (bot.session_reason, told)))) if told else bot


def running_settings() -> "Settings":
    """The settings of what runs here: it may run in the sandbox."""
    from bisnesctl.processes import last_start
    from bisnesctl.settings import load

    settings = load()
    return last_start.with_sandbox(settings, last_start.read(settings.run_dir))


def _kind(named: BotType | None, wwebjs: bool) -> BotType | None:
    if wwebjs and named not in (None, BotType.WWEBJS):
        raise UsageError(f"--wwebjs and --type {named.value} contradict each other")
    return BotType.WWEBJS if wwebjs else named


def _read_secrets(token: bool, pin: bool) -> tuple[str | None, str | None]:
    """The token and the PIN, as far as they are asked for: on a terminal without echo, else a line each."""
    import getpass
    import sys

    if sys.stdin.isatty():
        lines = [getpass.getpass(prompt) for wanted, prompt in ((token, "Token: "), (pin, "PIN: ")) if wanted]
    else:
        lines = [line for line in sys.stdin.read().splitlines() if line.strip()] if token or pin else []
    given = iter(each.strip() for each in lines)
    secrets = _token(next(given, "")) if token else None, _pin(next(given, "")) if pin else None
    if next(given, None) is not None:
        raise UsageError("the standard input has more lines than what was asked for: the token, then the PIN")
    return secrets


def _token(text: str) -> str:
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError("the token on the standard input must be one word, such as EAAG…")
    return text


def _pin(text: str) -> str:
    if len(text) != 6 or not text.isascii() or not text.isdigit():
        raise UsageError("the PIN on the standard input must have six digits")
    return text


def _named(linked: "Linked") -> str:
    from rich.markup import escape

    words = " ".join(filter(None, (linked.name, linked.display_number)))
    return f": {escape(words)}" if words else ""


def _show(found: "list[Bot]") -> None:
    from bisnesctl.terminal import output

    columns = [
        output.Column("company"),
        output.Column("phone", "right"),
        output.Column("type"),
        output.Column("process", from_width=100),
        output.Column("status"),
        output.Column("number", from_width=90),
        output.Column("number id", from_width=110),
        output.Column("rate", "right", from_width=120),
        output.Column("check", from_width=100),
        output.Column("session", from_width=100),
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
        "-" if bot.rate is None else f"{bot.rate:g}",
        bot.check or "-",
        bot.session or "-",
        str(bot.waiting),
        _held(bot),
    ]


def _held(bot: "Bot") -> str:
    from rich.markup import escape

    if bot.blocked_until is not None:
        end = "until you act" if bot.blocked_until == "infinity" else f"until {bot.blocked_until}"
        return f"[red]blocked {end} (`bots unblock`)[/]: {escape(bot.blocked_reason or '')}"
    if bot.outage is not None and bot.held_until != "infinity":
        why = f"{bot.outage['code']}: {bot.outage['reason']}"
        return f"[red]its provider is not available since {bot.outage['since']}[/]: {escape(why)}"
    if bot.held_until is None:
        return f"[yellow]{(bot.session or '').lower()}[/]: {escape(bot.session_reason)}" if bot.session_reason else "-"
    until = "until you act (`bots add`)" if bot.held_until == "infinity" else f"until {bot.held_until}"
    return f"[yellow]{until}[/]: {escape(bot.held_reason or 'no reason given')}"
