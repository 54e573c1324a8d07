"""`bisnesctl dead-letters`: items that failed and are kept for an operator."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes, reads
from bisnesctl.cli.app import WATCH, AnyCompany, AsJson, Commands, app, example, usable_settings

if TYPE_CHECKING:
    from bisnesctl.database.dead_letters import DeadLetter, DeadLetterDetails
    from bisnesctl.database.postgres import Connection
    from bisnesctl.database.retries import MessageFilter

dead_letters = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="List, show, retry and resolve messages, webhooks and files that failed.",
)
app.add_typer(dead_letters, name="dead-letters", rich_help_panel=WATCH)

LetterId = Annotated[str, typer.Argument(metavar="ID", help="The id as `dead-letters list` shows it.")]
LetterIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="The ids as `dead-letters list` shows them.", show_default=False),
]
AnyBot = Annotated[
    str | None, typer.Option("--bot", metavar="COMPANY/PHONE", help="Messages of this bot, such as 0128/0.")
]
MessageLimit = Annotated[int, typer.Option("--limit", min=1, max=100_000, metavar="N", help="At most N messages.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count the messages.")]


class Kind(StrEnum):
    """The kind of a dead letter."""

    MESSAGES = "messages"
    UNKNOWN = "unknown"
    WEBHOOKS_IN = "webhooks-in"
    WEBHOOKS_OUT = "webhooks-out"
    MEDIA = "media"


@dead_letters.command(
    "list", epilog=example("bisnesctl dead-letters list", "bisnesctl dead-letters list --kind webhooks-out --json")
)
@reads
def list_letters(
    kind: Annotated[Kind | None, typer.Option(help="Only this kind.")] = None,
    company: AnyCompany = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="At most N, the newest.")] = 50,
    json: AsJson = False,
) -> None:
    """List dead letters, newest first.

    `messages`: messages that failed. `unknown`: messages that may have been sent, without a status report since.
    `webhooks-in`: webhooks of the providers that could not be applied. `webhooks-out`: events that a customer's webhook
    did not accept for a day. `media`: files of incoming messages that could not be downloaded.
    """
    from bisnesctl.database import dead_letters as store
    from bisnesctl.database import postgres
    from bisnesctl.terminal import output

    with postgres.command_connection(usable_settings()) as connection:
        found, more = store.find(connection, limit, kind and kind.value, company)
    output.print_found(found, json, _show, "there are no dead letters")
    if more:
        output.say("there are more: use `--limit`, `--kind` or `--company`")


@dead_letters.command(
    epilog=example("bisnesctl dead-letters show 42", "bisnesctl dead-letters show evt_01JD5S0QK1 --json")
)
@reads
def show(letter_id: LetterId, json: AsJson = False) -> None:
    """Show a dead letter with all its details, such as the body of a webhook."""
    from dataclasses import asdict

    from bisnesctl.database import dead_letters as store
    from bisnesctl.database import postgres
    from bisnesctl.terminal import output

    with postgres.command_connection(usable_settings()) as connection:
        found = store.find_by_id(connection, letter_id)
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
@changes
def retry(
    letter_ids: LetterIds = None,
    code: Annotated[
        str | None, typer.Option(metavar="CODE", help="Messages that failed with this code, such as network.")
    ] = None,
    bot: AnyBot = None,
    company: AnyCompany = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Failed at or after: 2h, 30m, 1d (ago) or 2026-01-31T08:00.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Failed at or before, in the same form.")] = None,
    limit: MessageLimit = 1000,
    dry_run: DryRun = False,
) -> None:
    """Retry dead letters.

    A provider's webhook is applied again, an event is delivered again in the order of its chat, and a file is
    downloaded again. A message is sent again only if it certainly was not sent and the cause is temporary, such as a
    provider that could not be reached; within its chat it goes before messages that were accepted later. A message
    that was refused permanently is not retried: correct it and send it as a new one.

    With options instead of ids, all failed messages that match every option are retried, the oldest first. The exit
    code is 2 if nothing can be retried.
    """
    from bisnesctl.database import postgres

    wanted = _filter(letter_ids, code, bot, company, since, until, limit)
    with postgres.command_connection(usable_settings()) as connection:
        if letter_ids:
            _retry_letters(connection, letter_ids, dry_run)
        else:
            _retry_messages(connection, wanted, dry_run)


class Outcome(StrEnum):
    """The decision of an operator about a message whose outcome is unknown."""

    SENT = "sent"
    FAILED = "failed"
    AGAIN = "again"


@dead_letters.command(
    epilog=example(
        "bisnesctl dead-letters resolve --as sent 0190c0de-0000-7000-8000-000000000000",
        "bisnesctl dead-letters resolve --as again --bot 0128/0 --since 2h --dry-run",
        "bisnesctl dead-letters resolve --as failed --company 0128 --code no_answer",
    )
)
@changes
def resolve(
    outcome: Annotated[
        Outcome, typer.Option("--as", help="`sent`, `failed`, or `again` to send it once more.", show_default=False)
    ],
    message_ids: LetterIds = None,
    code: Annotated[
        str | None, typer.Option(metavar="CODE", help="Messages that are unknown for this cause, such as no_answer.")
    ] = None,
    bot: AnyBot = None,
    company: AnyCompany = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Unknown since then: 2h, 30m, 1d (ago) or 2026-01-31T08:00.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Unknown before then, in the same form.")] = None,
    limit: MessageLimit = 1000,
    dry_run: DryRun = False,
) -> None:
    """Decide what became of messages whose outcome is unknown.

    The provider may have such a message, so it is not sent again by itself. Ask the recipient, then say `sent` or
    `failed`: a worker records it within seconds, with the event for the customer. `again` sends the message once more,
    in its place in the chat: the recipient may get it twice. A report of the provider that comes later still counts.

    With options instead of ids, all unknown messages that match every option are resolved. The exit code is 2 if there
    is none.
    """
    from bisnesctl.database import postgres, resolutions
    from bisnesctl.errors import UsageError
    from bisnesctl.terminal import output

    wanted = _filter(message_ids, code, bot, company, since, until, limit)
    with postgres.command_connection(usable_settings()) as connection:
        found = resolutions.find_by_id(connection, message_ids) if message_ids else resolutions.find(connection, wanted)
        ids = [each.id for each in found if outcome is not Outcome.AGAIN or not each.removed]
        if not ids:
            raise UsageError("no such message is unknown: `bisnesctl dead-letters list --kind unknown` shows all")
        if dry_run:
            output.result(f"would resolve {_messages(len(ids))} as {outcome}")
            return
        resolved = resolutions.resolve(connection, ids, resolutions.Resolution(outcome.value))
    output.result(f"resolving {_messages(len(resolved))} as {outcome}")
    for count, reason in ((len(message_ids or []) - len(found), "not unknown"), (len(found) - len(ids), "bot removed")):
        if count > 0:
            output.say(f"{_messages(count)} not resolved: {reason}")
    if len(found) >= wanted.limit:
        output.say("there may be more: use `--limit`")


def _filter(
    ids: list[str] | None,
    code: str | None,
    bot: str | None,
    company: str | None,
    since: str | None,
    until: str | None,
    limit: int,
) -> "MessageFilter":
    """The filter of the options. Raises `UsageError` unless there are either ids or options."""
    from bisnesctl.database.retries import MessageFilter, parse_bot
    from bisnesctl.errors import UsageError

    filtered = any(each is not None for each in (code, bot, company, since, until))
    if bool(ids) is filtered:
        raise UsageError("name ids, or filter messages with --code, --bot, --company, --since and --until")
    if bot is not None and company is not None:
        raise UsageError("--bot includes the company: leave out --company")
    owner, phone = parse_bot(bot) if bot is not None else (company, None)
    return MessageFilter(code, owner, phone, since, until, limit)


def _retry_letters(connection: "Connection", letter_ids: list[str], dry_run: bool) -> None:
    from bisnesctl.database import dead_letters as store
    from bisnesctl.errors import UsageError
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    if dry_run:
        raise UsageError("--dry-run counts messages: filter them with --code, --bot, --company, --since or --until")
    retried, refused = store.retry(connection, letter_ids)
    if not retried:
        raise UsageError("\n".join(refused))
    for reason in refused:
        output.say(escape(reason))
    for letter in retried:
        output.say(escape(f"retrying {letter.kind} {letter.id}"))


def _retry_messages(connection: "Connection", wanted: "MessageFilter", dry_run: bool) -> None:
    from bisnesctl.database import retries
    from bisnesctl.errors import UsageError
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    choice = retries.choose(connection, wanted)
    reasons = [f"{_messages(count)} not retried: {reason}" for reason, count in choice.refused.items()]
    if not choice.ids:
        raise UsageError("\n".join(reasons) or "no failed message matches: `bisnesctl dead-letters list` shows all")
    for reason in reasons:
        output.say(escape(reason))
    if dry_run:
        output.result(f"would retry {_messages(len(choice.ids))}")
    else:
        output.result(f"retrying {_messages(len(retries.retry(connection, choice.ids)))}")
    if len(choice.ids) + choice.refused.total() >= wanted.limit:
        output.say("there may be more: use `--limit`")


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def _show(found: "list[DeadLetter]") -> None:
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    columns = [
        output.Column("kind"),
        output.Column("id"),
        output.Column("company", wraps=True, from_width=100),
        output.Column("since", from_width=120),
        output.Column("reason", wraps=True),
    ]
    cells = [[each.kind, each.id, each.company or "-", each.at, each.reason] for each in found]
    output.print_table(columns, [[escape(text) for text in row] for row in cells])


def _print(letter: "DeadLetterDetails") -> None:
    from dataclasses import asdict

    from bisnesctl.terminal import output, printable

    fields = asdict(letter)
    for name, value in (fields | fields.pop("details")).items():
        text = printable.one_line(value) if isinstance(value, str) else printable.as_json(value)
        output.result(f"{name}: {text}")
    output.result("")
