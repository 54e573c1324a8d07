"""The command group `bisnesctl queue`, and what its commands share."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.cli.app import WATCH, Commands, app
from bisnesctl.errors import UsageError

if TYPE_CHECKING:
    from bisnesctl.queue.messages import QueueFilter
    from bisnesctl.queue.states import State

queue = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Count, list, retry, cancel, pause and drain the messages that wait to be sent.",
)
app.add_typer(queue, name="queue", rich_help_panel=WATCH)

AnyBot = Annotated[str | None, typer.Option("--bot", metavar="BOT", help="Only messages of this bot, such as 0128/0.")]
AnyChat = Annotated[
    str | None, typer.Option("--chat", metavar="CHAT", help="Only messages of this chat, such as 60123456789.")
]
OlderThan = Annotated[
    str | None,
    typer.Option("--older-than", metavar="DURATION", help="Only messages accepted longer ago: 90s, 30m, 2h, 1d."),
]
MessageId = Annotated[str, typer.Argument(metavar="ID", help="The id of the message, ours or the provider's.")]
MessageIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="The ids as `queue list` shows them.", show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what matches.")]


def filter_of(
    bot: str | None, company: str | None, chat: str | None, state: "State | None", older_than: str | None
) -> "QueueFilter":
    """The filter of the options. Raises `UsageError`."""
    from bisnesctl.queue.messages import QueueFilter

    owner, phone = (company, None) if bot is None else bot_of(bot, company)
    plain = chat and chat.removesuffix("@c.us").removesuffix("@s.whatsapp.net").lstrip("+")
    return QueueFilter(owner, phone, plain, state, duration("--older-than", older_than))


def bot_of(bot: str, company: str | None) -> tuple[str, int]:
    """The company and the phone index of the option --bot. Raises `UsageError`."""
    from bisnesctl.database.retries import parse_bot

    if company is not None:
        raise UsageError("--bot includes the company: leave out --company")
    return parse_bot(bot if "/" in bot else "/".join(bot.rsplit("-", 1)))


def duration(option: str, text: str | None) -> float | None:
    """The seconds of an option. Raises `UsageError`."""
    from bisnesctl import moments

    if text is None:
        return None
    seconds = moments.parse_duration(text.strip())
    if seconds is None or not seconds:
        raise UsageError(f"{option} {text}: write a duration, such as 90s, 30m, 2h or 1d")
    return seconds


def confirm(question: str, yes: bool) -> None:
    """Asks an operator at a terminal. Raises `UsageError` without a terminal, `typer.Exit` if the answer is no."""
    import sys

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nothing was changed: confirm with --yes, since there is no terminal to ask on")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


def messages(count: int) -> str:
    """A number of messages in words."""
    return "1 message" if count == 1 else f"{count} messages"


def operator() -> str:
    """The name of the operator who types the command, also under sudo."""
    import getpass
    import os

    return os.environ.get("SUDO_USER") or getpass.getuser()
