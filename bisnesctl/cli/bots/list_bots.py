"""`bisnesctl bots list`: the bots, with what waits and why."""

from typing import TYPE_CHECKING

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import AnyCompany, AsJson, example, usable_settings
from bisnesctl.cli.bots.group import bots

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from bisnesctl.bots.store import Bot


@bots.command("list", epilog=example("bisnesctl bots list", "bisnesctl bots list --company 0128 --json"))
@reads
def list_bots(company: AnyCompany = None, json: AsJson = False) -> None:
    """List the bots, how many messages wait for each, and why a bot is held."""
    from bisnesctl.bots import store
    from bisnesctl.database import postgres
    from bisnesctl.health import guard_file
    from bisnesctl.terminal import output

    settings = usable_settings()
    with postgres.command_connection(settings) as connection:
        found = store.find(connection, company)
    hangs = guard_file.recent_hangs(settings.run_dir)
    none = "there are no bots yet: [b]bisnesctl bots add --help[/] shows how to add one"
    output.print_found([_with_hangs(each, hangs) for each in found], json, _show, none)


def _with_hangs(bot: "Bot", hangs: "Mapping[str, str]") -> "Bot":
    """The bot with the recent hangs of its session, which this machine's guard knows."""
    from dataclasses import replace

    from bisnesctl.naming import session_name

    hang = hangs.get(session_name(bot.company, bot.phone)) if bot.session else None
    return replace(bot, session_reason="; ".join(filter(None, (bot.session_reason, hang)))) if hang else bot


def _show(found: "list[Bot]") -> None:
    from bisnesctl.terminal import output

    columns = [
        output.Column("company"),
        output.Column("phone", "right"),
        output.Column("type"),
        output.Column("channel", from_width=100),
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
    from bisnesctl.terminal.output import escape

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
    """Why it sends nothing; a pause comes first, with the other reason behind it."""
    other = _hold(bot)
    if bot.paused is None:
        return other
    return _pause(bot, bot.paused) if other == "-" else f"{_pause(bot, bot.paused)}; {other}"


def _pause(bot: "Bot", pause: "dict[str, Any]") -> str:
    from bisnesctl.terminal.output import escape

    until = f" until {pause['until']}" if pause["until"] else ""
    reason = f": {pause['reason']}" if pause["reason"] else ""
    words = f"by {pause['by']}{reason} (`queue resume {bot.company}/{bot.phone}`)"
    return f"[yellow]paused{until}[/] {escape(words)}"


def _hold(bot: "Bot") -> str:
    from bisnesctl.bots import hold_ends
    from bisnesctl.terminal.output import escape

    if bot.blocked_until is not None:
        end = "until you act" if bot.blocked_until == "infinity" else f"until {bot.blocked_until}"
        return f"[red]blocked {end} (`bots unblock`)[/]: {escape(bot.blocked_reason or '')}"
    if bot.outage is not None and bot.held_until != "infinity":
        reason = f"{bot.outage['code']}: {bot.outage['reason']}"
        return f"[red]provider unavailable since {bot.outage['since']}[/]: {escape(reason)}"
    if bot.held_until is None:
        return f"[yellow]{(bot.session or '').lower()}[/]: {escape(bot.session_reason)}" if bot.session_reason else "-"
    command = hold_ends.command_for(bot.hold_code, bot.company, bot.phone)
    until = f"until you act (`{command}`)" if bot.held_until == "infinity" else f"until {bot.held_until}"
    return f"[yellow]{until}[/]: {escape(bot.held_reason or 'no reason given')}"
