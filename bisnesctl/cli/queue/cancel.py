"""`bisnesctl queue cancel`: cancels messages that wait."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import AnyCompany, example, usable_settings
from bisnesctl.cli.queue.group import (
    AnyBot,
    AnyChat,
    DryRun,
    MessageIds,
    OlderThan,
    Yes,
    confirm,
    filter_of,
    messages,
    queue,
)
from bisnesctl.errors import UsageError

if TYPE_CHECKING:
    from bisnesctl.database.postgres import Connection
    from bisnesctl.queue.messages import QueueFilter

#: Messages that a preview lists.
_PREVIEW = 5


@queue.command(
    epilog=example(
        "bisnesctl queue cancel 01934f7e-5bb0-7f41-9d41-2f1f8c1d2e3f",
        "bisnesctl queue cancel --bot 0128/0 --older-than 6h --dry-run",
        "bisnesctl queue cancel --company 0128 --chat 60123456789 --yes",
    )
)
@changes
def cancel(
    message_ids: MessageIds = None,
    bot: AnyBot = None,
    company: AnyCompany = None,
    chat: AnyChat = None,
    older_than: OlderThan = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, metavar="N", help="At most N messages.")] = 10_000,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Cancel messages that wait: they are never sent, and fail with the code `cancelled`.

    A message that a worker has in hand, or that may have been sent, is not cancelled. The customer gets the event of
    the failure. With options instead of ids, all messages that match every option are cancelled, the oldest first. The
    exit code is 2 if nothing can be cancelled.
    """
    from bisnesctl.database import postgres

    wanted = filter_of(bot, company, chat, None, older_than)
    filtered = any(each is not None for each in (bot, company, chat, older_than))
    if bool(message_ids) is filtered:
        raise UsageError("name ids, or filter messages with --bot, --company, --chat and --older-than")
    with postgres.command_connection(usable_settings()) as connection:
        if message_ids:
            _cancel_named(connection, message_ids, dry_run)
        else:
            _cancel_matching(connection, wanted, limit, yes, dry_run)


def _cancel_named(connection: "Connection", message_ids: list[str], dry_run: bool) -> None:
    from bisnesctl.queue import message_changes
    from bisnesctl.queue.messages import get
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    refused, done = [], 0
    for message_id in dict.fromkeys(message_ids):
        try:
            found = get(connection, message_id)
            if not dry_run:
                message_changes.cancel_one(connection, found)
            output.result(f"{'would cancel' if dry_run else 'cancelled'} {found.id}")
            done += 1
        except UsageError as error:
            refused.append(str(error))
    if not done:
        raise UsageError("\n".join(refused))
    for reason in refused:
        output.say(escape(reason))


def _cancel_matching(connection: "Connection", wanted: "QueueFilter", limit: int, yes: bool, dry_run: bool) -> None:
    from bisnesctl import formatting
    from bisnesctl.queue import message_changes
    from bisnesctl.queue.messages import find, ids_waiting
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    matching = ids_waiting(connection, wanted, limit)
    if not matching:
        raise UsageError("no message that waits matches: `bisnesctl queue list` shows all")
    ages = f"accepted {formatting.duration(matching[0][1])} to {formatting.duration(matching[-1][1])} ago"
    for each in find(connection, wanted, _PREVIEW)[0]:
        words = (each.id, f"{each.company}/{each.phone}", each.chat, each.state, formatting.duration(each.age_seconds))
        output.say(escape("  ".join(words)))
    if len(matching) > _PREVIEW:
        output.say(f"… and {messages(len(matching) - _PREVIEW)} more")
    if dry_run:
        output.result(f"would cancel {messages(len(matching))}, {ages}")
        return
    confirm(f"Cancel {messages(len(matching))}, {ages}?", yes)
    ids = [message_id for message_id, _ in matching]
    cancelled = message_changes.cancel(connection, ids, reason=message_changes.BY_OPERATOR)
    output.result(f"cancelled {messages(len(cancelled))}")
    if missed := len(matching) - len(cancelled):
        output.say(f"{messages(missed)} not cancelled: a worker has them in hand, or they left")
    if len(matching) >= limit:
        output.say("there may be more: use `--limit`")
