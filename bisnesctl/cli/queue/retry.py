"""`bisnesctl queue retry`: sends failed messages once more, and others at once."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import AnyCompany, example, usable_settings
from bisnesctl.cli.queue.group import AnyBot, DryRun, MessageIds, Yes, bot_of, confirm, messages, queue
from bisnesctl.errors import UsageError

if TYPE_CHECKING:
    from bisnesctl.database.postgres import Connection
    from bisnesctl.database.retries import MessageFilter


@queue.command(
    epilog=example(
        "bisnesctl queue retry 01934f7e-5bb0-7f41-9d41-2f1f8c1d2e3f",
        "bisnesctl queue retry --failed --bot 0128/0 --since 2h --dry-run",
        "bisnesctl queue retry --failed --code network --yes",
    )
)
@changes
def retry(
    message_ids: MessageIds = None,
    failed: Annotated[bool, typer.Option("--failed", help="All failed messages that match the other options.")] = False,
    bot: AnyBot = None,
    company: AnyCompany = None,
    code: Annotated[
        str | None, typer.Option(metavar="CODE", help="Messages that failed with this code, such as network.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Failed at or after: 2h, 30m, 1d (ago) or 2026-01-31T08:00.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Failed at or before, in the same form.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="At most N messages.")] = 1000,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Send failed messages once more, in their places in their chats; or try delayed ones at once.

    A failed message is sent only if it certainly was not sent and the cause is temporary, as with `dead-letters retry`.
    A message that waits for its next attempt is tried now. The exit code is 2 if nothing can be retried.
    """
    from bisnesctl.database import postgres
    from bisnesctl.database.retries import MessageFilter

    options = any(each is not None for each in (bot, company, code, since, until))
    if bool(message_ids) is failed or (options and not failed):
        raise UsageError("name ids, or --failed with --bot, --company, --code, --since or --until")
    with postgres.command_connection(usable_settings()) as connection:
        if message_ids:
            _retry_named(connection, message_ids, dry_run)
            return
        owner, phone = (company, None) if bot is None else bot_of(bot, company)
        _retry_failed(connection, MessageFilter(code, owner, phone, since, until, limit), yes, dry_run)


def _retry_named(connection: "Connection", message_ids: list[str], dry_run: bool) -> None:
    from bisnesctl.queue import message_changes
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    if dry_run:
        raise UsageError("--dry-run counts messages: use it with --failed")
    refused, done = [], 0
    for message_id in dict.fromkeys(message_ids):
        try:
            output.result(message_changes.retry(connection, message_id))
            done += 1
        except UsageError as error:
            refused.append(str(error))
    if not done:
        raise UsageError("\n".join(refused))
    for reason in refused:
        output.say(escape(reason))


def _retry_failed(connection: "Connection", wanted: "MessageFilter", yes: bool, dry_run: bool) -> None:
    from bisnesctl.database import retries
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    choice = retries.choose(connection, wanted)
    reasons = [f"{messages(count)} not retried: {reason}" for reason, count in choice.refused.items()]
    if not choice.ids:
        raise UsageError("\n".join(reasons) or "no failed message matches: `bisnesctl queue list --state failed`")
    for reason in reasons:
        output.say(escape(reason))
    if dry_run:
        output.result(f"would retry {messages(len(choice.ids))}")
        return
    confirm(f"Retry {messages(len(choice.ids))}?", yes)
    output.result(f"retrying {messages(len(retries.retry(connection, choice.ids)))}")
    if len(choice.ids) + choice.refused.total() >= wanted.limit:
        output.say("there may be more: use `--limit`")
