"""`bisnesctl queue list` and `show`: the messages that wait, and why."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import AnyCompany, AsJson, example, usable_settings
from bisnesctl.cli.queue.group import AnyBot, AnyChat, MessageId, OlderThan, filter_of, queue
from bisnesctl.queue.states import MAX_PAGE, State

if TYPE_CHECKING:
    from bisnesctl.queue.messages import MessageDetails, QueuedMessage

_COLOURS = {"active": "green", "delayed": "yellow", "unknown": "yellow", "failed": "red"}


@queue.command(
    "list",
    epilog=example(
        "bisnesctl queue list --older-than 10m",
        "bisnesctl queue list --bot 0128/0 --state delayed",
        "bisnesctl queue list --limit 200 --after 51234 --json",
    ),
)
@reads
def list_messages(
    bot: AnyBot = None,
    company: AnyCompany = None,
    chat: AnyChat = None,
    state: Annotated[State | None, typer.Option(help="Only messages in this state.")] = None,
    older_than: OlderThan = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE, metavar="N", help="At most N messages.")] = 50,
    after: Annotated[
        int, typer.Option(min=0, metavar="NUMBER", help="Continue after the message with this number.")
    ] = 0,
    json: AsJson = False,
) -> None:
    """List the messages that are not sent yet, oldest first, and why each of them waits.

    `--state failed` and `--state unknown` list messages that failed or may have been sent.
    """
    from bisnesctl.database import postgres
    from bisnesctl.queue import messages
    from bisnesctl.terminal import output

    wanted = filter_of(bot, company, chat, state, older_than)
    with postgres.command_connection(usable_settings()) as connection:
        found, more = messages.find(connection, wanted, limit, after)
    output.print_found(found, json, _show, "no message matches")
    if more:
        output.say(f"there are more: `--after {found[-1].number}` continues")


@queue.command(epilog=example("bisnesctl queue show 01934f7e-5bb0-7f41-9d41-2f1f8c1d2e3f"))
@reads
def show(message_id: MessageId, json: AsJson = False) -> None:
    """Show all of one message: its life, its attempts, its last error, and what it waits for."""
    from dataclasses import asdict

    from bisnesctl.database import postgres
    from bisnesctl.queue import messages
    from bisnesctl.terminal import output

    with postgres.command_connection(usable_settings()) as connection:
        found = messages.get(connection, message_id)
    if json:
        output.print_json(asdict(found))
    else:
        _print(found)


def _show(found: "list[QueuedMessage]") -> None:
    from bisnesctl.terminal import output

    columns = [
        output.Column("id"),
        output.Column("bot"),
        output.Column("state"),
        output.Column("age", "right"),
        output.Column("chat", from_width=90),
        output.Column("kind", from_width=100),
        output.Column("attempts", "right", from_width=110),
        output.Column("reason", wraps=True),
    ]
    output.print_table(columns, [_cells(each) for each in found])


def _cells(message: "QueuedMessage") -> list[str]:
    from bisnesctl import formatting
    from bisnesctl.terminal.output import escape

    colour = _COLOURS.get(message.state)
    return [
        message.id,
        escape(f"{message.company}/{message.phone}"),
        f"[{colour}]{message.state}[/]" if colour else message.state,
        formatting.duration(message.age_seconds),
        escape(message.chat),
        escape(message.kind),
        str(message.attempts),
        escape(message.reason + (f" (`{message.next}`)" if message.next else "")),
    ]


def _print(message: "MessageDetails") -> None:
    from bisnesctl import formatting
    from bisnesctl.terminal import output, printable

    lines: list[tuple[str, object]] = [
        ("message", f"{message.id} ({message.kind}, number {message.number})"),
        ("bot", f"{message.company}/{message.phone} ({message.channel or 'removed'})"),
        ("chat", message.chat),
        ("accepted", f"{message.accepted_at} ({formatting.duration(message.age_seconds)} ago)"),
        ("state", message.state),
        ("why", message.reason),
        ("next", message.next),
        ("attempts", message.attempts),
        ("last error", ": ".join(filter(None, (message.code, message.error)))),
        ("next attempt", message.next_attempt_at),
        ("before it", f"{message.ahead} of its chat, first {message.first}" if message.ahead else None),
        ("worker", message.worker),
        ("provider id", message.provider_id),
        ("request id", message.request_id),
        ("log", f"bisnesctl logs --message {message.id}"),
        ("content", printable.as_json(message.payload)),
    ]
    for name, value in lines:
        if value not in (None, ""):
            output.result(f"{name:<13}{printable.one_line(str(value)) if name != 'content' else value}")
    output.result("life")
    output.result(f"  {message.accepted_at}  accepted")
    for step in message.timeline:
        details = ": ".join(str(step[each]) for each in ("code", "error") if step.get(each))
        attempt = f" (attempt {step['attempt']})" if step.get("attempt") else ""
        line = f"{_time(step)}  {step.get('status')}{attempt}{f': {details}' if details else ''}"
        output.result(f"  {printable.one_line(line)}")


def _time(step: dict[str, object]) -> str:
    """When a step was, in the form of the other times."""
    from datetime import UTC, datetime

    try:
        return datetime.fromisoformat(str(step.get("at"))).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return str(step.get("at"))
