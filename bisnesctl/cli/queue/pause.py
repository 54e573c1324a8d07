"""`bisnesctl queue pause` and `resume`: bots that send nothing for a while."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import changes
from bisnesctl.cli.app import example, usable_settings
from bisnesctl.cli.queue.group import Yes, confirm, duration, messages, operator, queue
from bisnesctl.errors import UsageError

if TYPE_CHECKING:
    from bisnesctl.database.postgres import Connection
    from bisnesctl.queue.targets import BotName

#: Seconds to wait for messages that workers have in hand.
IN_HAND_SECONDS = 10.0
#: Seconds between two looks.
_POLL_SECONDS = 0.2

BotNames = Annotated[
    list[str],
    typer.Argument(
        metavar="BOT", show_default=False, help="A bot (0128/0), a company (0128), a channel (meta, wwebjs), or all."
    ),
]


@queue.command(
    epilog=example(
        "bisnesctl queue pause 0128/0 --reason 'wrong price list' --for 1h",
        "bisnesctl queue pause 0128/0 0128/1",
        "bisnesctl queue pause meta --yes",
    )
)
@changes
def pause(
    names: BotNames,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; operators and the customer see it.")] = None,
    duration_text: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="End by itself after 90s, 30m, 2h, 1d.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Have bots send nothing. Messages are accepted and wait, also across restarts, until `queue resume`.

    Messages that workers have in hand already may still leave: the command waits a moment for them, and says if some
    are left.
    A bot that is paused already gets the new reason and end.
    """
    from bisnesctl.database import postgres
    from bisnesctl.queue import pauses
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    seconds = duration("--for", duration_text)
    if seconds is not None and seconds > pauses.MAX_PAUSE_SECONDS:
        raise UsageError(f"--for {duration_text}: a pause that ends by itself takes 365 days at most")
    if reason is not None and len(reason) > pauses.MAX_REASON_CHARACTERS:
        raise UsageError(f"--reason: at most {pauses.MAX_REASON_CHARACTERS} characters")
    with postgres.command_connection(usable_settings()) as connection:
        bots = _bots(connection, names)
        _confirm_several("Pause", bots, names, yes)
        pauses.pause(connection, bots, operator(), reason, seconds)
        left = _wait_for_hands(connection, bots)
    end = f"for {duration_text}" if duration_text else "until `bisnesctl queue resume`"
    for bot in bots:
        output.result(f"bot {bot} is paused {end}")
    if left:
        output.say(escape(f"{messages(left)} that workers had in hand may still leave"))


@queue.command(epilog=example("bisnesctl queue resume 0128/0", "bisnesctl queue resume all --yes"))
@changes
def resume(names: BotNames, yes: Yes = False) -> None:
    """End the pauses of bots: their messages leave, in the order of each chat.

    A bot that is held for another reason stays held; the command says so.
    """
    from bisnesctl.bots import causes
    from bisnesctl.database import postgres
    from bisnesctl.queue import pauses
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    with postgres.command_connection(usable_settings()) as connection:
        bots = _bots(connection, names)
        _confirm_several("Resume", bots, names, yes)
        resumed = pauses.resume(connection, bots, operator())
        situations = causes.situations(connection, sorted(resumed))
    for bot in bots:
        if bot.id in resumed:
            output.result(f"bot {bot} is resumed")
            for each in causes.causes_of(situations[bot.id]):
                command = f" (`{each.command}`)" if each.command else ""
                output.say(escape(f"bot {bot} still sends nothing: {each.text}{command}"))
        elif len(bots) == len(names):
            output.result(f"bot {bot} was not paused")
    if not resumed and len(bots) != len(names):
        output.result("none of these bots was paused")


def _bots(connection: "Connection", names: list[str]) -> "list[BotName]":
    from bisnesctl.queue import targets

    found = {bot.id: bot for name in names for bot in targets.named(connection, name)}
    if not found:
        raise UsageError("there are no bots yet: `bisnesctl bots add --help` shows how to add one")
    return list(found.values())


def _confirm_several(verb: str, bots: "list[BotName]", names: list[str], yes: bool) -> None:
    """Asks unless each bot was named."""
    if len(bots) > len(names):
        shown = ", ".join(str(each) for each in bots[:10]) + (", …" if len(bots) > 10 else "")
        confirm(f"{verb} {len(bots)} bots ({shown})?", yes)


def _wait_for_hands(connection: "Connection", bots: "list[BotName]") -> int:
    """Waits until workers have no message of the bots in hand, a moment at most; returns how many they still have."""
    import time

    from bisnesctl.queue import pauses

    end = time.monotonic() + IN_HAND_SECONDS
    while (left := pauses.in_hand(connection, bots)) and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    return left
