"""`bisnesctl dead-letters`: what could not be done, and waits for somebody to look."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.cli.app import WATCH, AnyCompany, app, example

if TYPE_CHECKING:
    from bisnesctl.database.dead_letters import DeadLetter, Opened
    from bisnesctl.database.postgres import Connection
    from bisnesctl.database.retries import Filter

dead_letters = typer.Typer(no_args_is_help=True, help="List, look into and retry what could not be done.")
app.add_typer(dead_letters, name="dead-letters", rich_help_panel=WATCH)

LetterId = Annotated[str, typer.Argument(metavar="ID", help="As `dead-letters list` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="For other programs.")]


class Kind(StrEnum):
    """What could not be done."""

    MESSAGES = "messages"
    UNKNOWN = "unknown"
    WEBHOOKS_IN = "webhooks-in"
    WEBHOOKS_OUT = "webhooks-out"
    MEDIA = "media"


@dead_letters.command(
    "list", epilog=example("bisnesctl dead-letters list", "bisnesctl dead-letters list --kind webhooks-out --json")
)
def list_letters(
    kind: Annotated[Kind | None, typer.Option(help="Only of this kind.")] = None,
    company: AnyCompany = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="The newest so many.")] = 50,
    json: AsJson = False,
) -> None:
    """Show what was given up, newest first.

    `messages` failed; of `unknown` nobody reports what became of them; `webhooks-in` of the providers could not be
    applied; `webhooks-out` are events that a customer's webhook did not take for a day; `media` of messages that came
    in could not be fetched.
    """
    from bisnesctl.database import dead_letters as deadletters
    from bisnesctl.lifecycle import database_setup
    from bisnesctl.settings import load
    from bisnesctl.terminal import output

    with database_setup.connected(load()) as connection:
        found, more = deadletters.find(connection, limit, kind and kind.value, company)
    output.print_found(found, json, _show, "there are no dead letters")
    if more:
        output.say("there are more: see `--limit`, `--kind` and `--company`")


@dead_letters.command(
    epilog=example("bisnesctl dead-letters show 42", "bisnesctl dead-letters show evt_01JD5S0QK1 --json")
)
def show(letter_id: LetterId, json: AsJson = False) -> None:
    """Show one with everything that is known of it, such as a webhook's body."""
    from dataclasses import asdict

    from bisnesctl.database import dead_letters as deadletters
    from bisnesctl.lifecycle import database_setup
    from bisnesctl.settings import load
    from bisnesctl.terminal import output

    with database_setup.connected(load()) as connection:
        found = deadletters.open_letters(connection, letter_id)
    if json:
        output.print_json([asdict(each) for each in found])
        return
    for letter in found:
        _print(letter)


@dead_letters.command(
    epilog=example(
        "bisnesctl dead-letters retry 42 43",
        "bisnesctl dead-letters retry evt_01JD5S",
        "bisnesctl dead-letters retry --code network --since 2h --dry-run",
        "bisnesctl dead-letters retry --code 131000 --bot 0128/0 --since 2026-01-31T08:00 --until 2026-01-31T09:30",
    )
)
def retry(
    letter_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID…]", help="As `dead-letters list` shows them.", show_default=False)
    ] = None,
    code: Annotated[
        str | None, typer.Option(metavar="CODE", help="Messages that failed with this code, such as network.")
    ] = None,
    bot: Annotated[str | None, typer.Option(metavar="COMPANY/PHONE", help="Messages of this bot: 0128/0.")] = None,
    company: AnyCompany = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="That failed since: 2h, 30m, 1d (ago) or 2026-01-31T08:00.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="That failed until then.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="So many messages at most.")] = 1000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
) -> None:
    """Have them tried again.

    A webhook of a provider is applied once more, an event is called once more in the order of its chat, a file is
    fetched once more. A message is sent once more if it is known not to have left, and failed for something that passes
    (its provider could not be reached, or was not able to); in its chat it goes before those that were accepted after
    it. One that was refused for good is not: put it right and send it as a new one.

    With options instead of ids: all failed messages that fit all of them, the oldest first. Exit code 2 if there was
    nothing to be tried again.
    """
    from bisnesctl.database.retries import Filter
    from bisnesctl.database.retries import bot as bot_named
    from bisnesctl.errors import UsageError
    from bisnesctl.lifecycle import database_setup
    from bisnesctl.settings import load

    filtered = any(each is not None for each in (code, bot, company, since, until))
    if bool(letter_ids) is filtered:
        raise UsageError("name ids, or what to retry by --code, --bot, --company, --since and --until")
    if bot is not None and company is not None:
        raise UsageError("--bot names its company already: leave out --company")
    of, phone = bot_named(bot) if bot is not None else (company, None)
    with database_setup.connected(load()) as connection:
        if letter_ids:
            _retry_letters(connection, letter_ids, dry_run)
        else:
            _retry_messages(connection, Filter(code, of, phone, since, until, limit), dry_run)


def _retry_letters(connection: "Connection", letter_ids: list[str], dry_run: bool) -> None:
    from rich.markup import escape

    from bisnesctl.database import dead_letters as deadletters
    from bisnesctl.errors import UsageError
    from bisnesctl.terminal import output

    if dry_run:
        raise UsageError("--dry-run counts messages: name them by --code, --bot, --company, --since or --until")
    retried, refused = deadletters.retry(connection, letter_ids)
    if not retried:
        raise UsageError("\n".join(refused))
    for reason in refused:
        output.say(escape(reason))
    for letter in retried:
        output.say(escape(f"trying again: {letter.kind} {letter.id}"))


def _retry_messages(connection: "Connection", wanted: "Filter", dry_run: bool) -> None:
    from rich.markup import escape

    from bisnesctl.database import retries
    from bisnesctl.errors import UsageError
    from bisnesctl.terminal import output

    choice = retries.choose(connection, wanted)
    reasons = [f"{_messages(count)} not tried again: {reason}" for reason, count in choice.refused.items()]
    if not choice.ids:
        raise UsageError("\n".join(reasons) or "no failed message fits: `bisnesctl dead-letters list` shows all")
    for reason in reasons:
        output.say(escape(reason))
    if dry_run:
        output.result(f"would try again: {_messages(len(choice.ids))}")
    else:
        output.result(f"trying again: {_messages(len(retries.again(connection, choice.ids)))}")
    if len(choice.ids) + choice.refused.total() >= wanted.limit:
        output.say("there may be more: see `--limit`")


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def _show(found: "list[DeadLetter]") -> None:
    from rich.markup import escape

    from bisnesctl.terminal import output

    columns = [
        output.Column("kind"),
        output.Column("id"),
        output.Column("company", wraps=True, from_width=100),
        output.Column("since", from_width=120),
        output.Column("reason", wraps=True),
    ]
    cells = [[each.kind, each.id, each.company or "-", each.at, each.reason] for each in found]
    output.print_table(columns, [[escape(text) for text in row] for row in cells])


def _print(letter: "Opened") -> None:
    import json
    from dataclasses import asdict

    from bisnesctl.terminal import output

    fields = asdict(letter)
    for name, value in (fields | fields.pop("details")).items():
        plain = isinstance(value, str) and value.isprintable()  # nothing that a terminal would obey
        text = value if plain else json.dumps(value, indent=2, ensure_ascii=not isinstance(value, dict | list))
        output.result(f"{name}: {text}")
    output.result("")
