"""`bisnesctl bots add`: adds a bot, or changes one."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import Company, Phone, example, usable_deployment
from bisnesctl.cli.bots.group import bots
from bisnesctl.errors import UsageError

if TYPE_CHECKING:
    from bisnesctl.bots.linking import LinkResult

#: The highest rate in messages per second that Meta allows for a number (WhatsApp, "Throughput").
MAX_MESSAGES_PER_SECOND = 1000
_PIN_DIGITS = 6


class BotType(StrEnum):
    """How a bot reaches WhatsApp."""

    META_DIRECT = "meta_direct"
    META_EMBEDDED = "meta_embedded"
    DIALOG360 = "360dialog"
    WWEBJS = "wwebjs"


def _rate(text: str) -> float:
    """Messages per second; 0, which only `default` gives, for the channel's setting."""
    import math

    try:
        rate = 0.0 if text == "default" else float(text)
    except ValueError:
        rate = math.nan
    if rate == 0 and text != "default":
        raise typer.BadParameter(
            "0 does not stop a bot. `bisnesctl queue pause` does; `default` is the rate of the channel"
        )
    if not 0 <= rate <= MAX_MESSAGES_PER_SECOND:
        raise typer.BadParameter(f"a number above 0, up to {MAX_MESSAGES_PER_SECOND}, or default")
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
@changes
def add(
    company: Company,
    phone: Phone = 0,
    kind: Annotated[
        BotType | None, typer.Option("--type", help="How the bot reaches WhatsApp (default of a new bot: meta_direct).")
    ] = None,
    wwebjs: Annotated[bool, typer.Option("--wwebjs", help="A WhatsApp Web number: same as --type wwebjs.")] = False,
    phone_number_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Meta's id of the phone number. 360dialog reports it; WhatsApp Web numbers have none."
        ),
    ] = None,
    waba_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Meta's id of the business account (default: Meta is asked for it)."),
    ] = None,
    display_number: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="The phone number as people know it.")
    ] = None,
    token_stdin: Annotated[
        bool,
        typer.Option(
            "--token-stdin", help="Read Meta's access token, or 360dialog's API key, from the standard input."
        ),
    ] = False,
    pin_stdin: Annotated[
        bool,
        typer.Option("--pin-stdin", help="Register the number with its PIN, read from the next line of the input."),
    ] = False,
    set_webhook: Annotated[
        bool, typer.Option("--set-webhook", help="Send the bot's webhooks to PUBLIC_URL, not to the app's address.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(
            parser=_rate,
            metavar="N",
            help="Messages per second, at most; `default`: the setting of the channel. To stop it: `queue pause`.",
        ),
    ] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Store the ids as typed, without asking the provider.")
    ] = False,
) -> None:
    """Add a bot, or change one. Properties that are not named stay as they are.

    Before the bot is stored, Meta or 360dialog is asked whether the token gives access to the number and whether the
    number belongs to the account; then its webhooks are subscribed. The token is stored encrypted with ENCRYPTION_KEY.
    If the bot was held, for example because its token had expired, it resumes with the messages that wait.
    """
    from bisnesctl.bots import linking
    from bisnesctl.bots.store import NewBot
    from bisnesctl.database import postgres
    from bisnesctl.lifecycle import preflight
    from bisnesctl.processes.extras import switched_off
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    settings = usable_deployment().settings
    preflight.check_secrets(settings)
    token, pin = _read_secrets(token_stdin, pin_stdin)
    kind = _kind(kind, wwebjs)
    bot = NewBot(company, phone, kind and kind.value, phone_number_id, waba_id, display_number, token, rate)
    options = linking.LinkOptions(bot, pin=pin, set_webhook=set_webhook, verify=not no_verify)
    linked = linking.link(lambda: postgres.command_connection(settings), settings, options)
    output.say(f"{'added' if linked.new else 'changed'} bot {phone} of company {company}{_description(linked)}")
    if kind is BotType.WWEBJS and (missing := preflight.missing_wa_js(settings)):
        output.say(escape(f"next: {missing}"))
    if kind is not None and (off := switched_off("wwebjs" if kind is BotType.WWEBJS else "meta", settings)):
        output.say(escape(f"next: {off}"))
    for hint in linked.hints:
        output.say(escape(f"next: {hint}"))


def _kind(named: BotType | None, wwebjs: bool) -> BotType | None:
    if wwebjs and named not in (None, BotType.WWEBJS):
        raise UsageError(f"--wwebjs and --type {named.value} contradict each other")
    return BotType.WWEBJS if wwebjs else named


def _read_secrets(token: bool, pin: bool) -> tuple[str | None, str | None]:
    """The token and the PIN, if requested: from a terminal without echo, otherwise one line each."""
    import getpass
    import sys

    if sys.stdin.isatty():
        lines = [getpass.getpass(prompt) for wanted, prompt in ((token, "Token: "), (pin, "PIN: ")) if wanted]
    else:
        lines = [line for line in sys.stdin.read().splitlines() if line.strip()] if token or pin else []
    given = iter(each.strip() for each in lines)
    secrets = _token(next(given, "")) if token else None, _pin(next(given, "")) if pin else None
    if next(given, None) is not None:
        raise UsageError("the standard input has too many lines: it should hold the token, then the PIN")
    return secrets


def _token(text: str) -> str:
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError("the token on the standard input must be one word, such as EAAG…")
    return text


def _pin(text: str) -> str:
    if len(text) != _PIN_DIGITS or not text.isascii() or not text.isdigit():
        raise UsageError("the PIN on the standard input must have six digits")
    return text


def _description(linked: "LinkResult") -> str:
    from bisnesctl.terminal.output import escape

    words = " ".join(filter(None, (linked.name, linked.display_number)))
    return f": {escape(words)}" if words else ""
