"""`bisnesctl audit`: who did what, when, from where, and with which outcome."""

import shlex
from enum import StrEnum
from json import dumps
from typing import Annotated, Any

import typer

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import WATCH, AsJson, app, example, usable_settings


class RecordedOutcome(StrEnum):
    """The outcome of an action; `unfinished`: it is under way."""

    OK = "ok"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    UNFINISHED = "unfinished"


@app.command(
    rich_help_panel=WATCH,
    epilog=example(
        "bisnesctl audit", "bisnesctl audit --since 2h --outcome failed", "bisnesctl audit --who alice --json"
    ),
)
@reads
def audit(
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="At or after: 2h, 30m, 1d (ago) or 2026-01-31T08:00.")
    ] = None,
    who: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="A part of the user, key or address; or cli, api, guard, manager."),
    ] = None,
    what: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A part of the command or route, its arguments or company.")
    ] = None,
    outcome: Annotated[RecordedOutcome | None, typer.Option(help="Only with this outcome.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="At most N, the newest.")] = 50,
    json: AsJson = False,
) -> None:
    """Show who did what, when, from where, and with which outcome; newest first.

    Commands that change something, requests that change a company's or an operator's configuration, and decisions of
    the guard and the manager are recorded, also those that failed. Secrets are masked. Records that wait for the
    database are shown too, so this works while PostgreSQL is unavailable.
    """
    from bisnesctl import moments
    from bisnesctl.audit import reading
    from bisnesctl.audit.store import AuditFilter
    from bisnesctl.terminal import output

    after = None if since is None else moments.parse(since, "--since")
    found = reading.read(usable_settings(), AuditFilter(after, who, what, outcome and outcome.value, limit))
    if found.unavailable:
        output.warn(f"only records that wait for the database are shown: {found.unavailable}")
    if json:
        output.print_json(found.records)
    elif found.records:
        _show(found.records)
    else:
        output.say("there is no such record")


def _show(records: list[dict[str, Any]]) -> None:
    """Prints each record as two lines, and a third one with the reason if it did not end well."""
    from datetime import datetime

    from rich.padding import Padding
    from rich.text import Text

    from bisnesctl import moments
    from bisnesctl.terminal import output, printable

    out = output.out()
    for each in records:
        when = moments.shown(datetime.fromisoformat(each["at"]).timestamp())
        who = f"{each['source']} {each['actor']}" if each["actor"] != each["source"] else each["actor"]
        place = f", {each['origin']}" if each["origin"] else ""
        colour = {"ok": "green", "failed": "red"}.get(each["outcome"], "yellow")
        words = f"  {printable.one_line(who + place)}"
        out.print(Text.assemble((when, "dim"), "  ", (f"{each['outcome']:<11}", colour), words), soft_wrap=False)
        done = f"{each['action']} {_arguments(each['arguments'])}".strip()
        out.print(Padding(Text(printable.one_line(done)), (0, 0, 0, 4), expand=False))
        reason = ": ".join(part for part in (each["code"], each["message"]) if part)
        if reason:
            out.print(Padding(Text(printable.one_line(reason), "dim"), (0, 0, 0, 4), expand=False))


def _arguments(arguments: Any) -> str:
    """The words of a command as they were typed, or the fields of a request."""
    if isinstance(arguments, list):
        return " ".join(shlex.quote(word) if not word or " " in word else word for word in map(str, arguments))
    if isinstance(arguments, dict):
        return " ".join(f"{name}={each if isinstance(each, str) else dumps(each)}" for name, each in arguments.items())
    return ""
