"""`bisnesctl logs`: the processes' logs."""

import re
from datetime import tzinfo
from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import WATCH, AsJson, LogNames, app, example, running_deployment
from bisnesctl.naming import SUPERVISORD

if TYPE_CHECKING:
    from bisnesctl.logs.files import LogFile
    from bisnesctl.logs.filters import BotPattern, Filter, Trace
    from bisnesctl.processes.deployment import Deployment
    from bisnesctl.terminal.log_view import LogView

#: How many last lines of each file are shown if no option narrows the records.
DEFAULT_LINES = 15

_TIME = "A duration before now (1h), a time (14:30) or a date and a time."


@app.command(
    rich_help_panel=WATCH,
    epilog=example(
        "bisnesctl logs -f",
        "bisnesctl logs api meta-worker --lines 100",
        "bisnesctl logs --since 1h --level warning",
        "bisnesctl logs --message 0197a1b2-…",
        "bisnesctl logs --bot 0128-2 --grep 'blocked|logged out' -i",
        "bisnesctl logs supervisord --since 02:30 --until 03:00",
    ),
)
@reads
def logs(
    names: LogNames = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep showing new lines.")] = False,
    lines: Annotated[
        int | None,
        typer.Option(
            "--lines", "-n", min=0,
            help=f"How many last lines of each file to show.  [default: {DEFAULT_LINES}; with a filter, all]",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show all lines that are kept.")] = False,
    since: Annotated[str | None, typer.Option(metavar="TIME", help=f"Only lines since then. {_TIME}")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only lines until then.")] = None,
    grep: Annotated[list[str] | None, typer.Option(metavar="REGEX", help="Only lines that match; repeatable.")] = None,
    ignore_case: Annotated[bool, typer.Option("--ignore-case", "-i", help="Let --grep ignore case.")] = False,
    level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="At least: debug, info, warning, error or critical.")
    ] = None,
    err: Annotated[bool, typer.Option("--err", help="Show only standard error.")] = False,
    bot: Annotated[str | None, typer.Option(metavar="BOT", help="Only lines about this bot, such as 0128-2.")] = None,
    message: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Only lines about this message, by its id or that of its request."),
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show the last log lines of all processes, or of those named, in the order of their times.

    Rotated files are read too. The files are read directly, so this works even if nothing runs.
    """
    from bisnesctl.errors import UsageError
    from bisnesctl.terminal.log_view import LogView

    if follow and until:
        raise UsageError("--until ends at a time and --follow does not end: give one of them")
    deployment = running_deployment()
    files, zone = _readable(_files(deployment, names or [], err)), _zone(deployment)
    condition = _condition(deployment, since, until, level, grep or [], ignore_case, bot)
    if message is not None:
        condition.trace = _trace(files, message, zone)
    view = LogView(files, condition, zone, as_json)
    if lines is None and condition.keeps_all and not everything:
        lines = DEFAULT_LINES
    view.show_tail(None if everything else lines)
    if names:
        view.report_silence()
    if not view.shown and not condition.keeps_all:
        _explain_nothing(deployment, view, message)
    if follow:
        view.follow(until=lambda: False)


def _readable(files: "list[LogFile]") -> "list[LogFile]":
    """The files that this user may read; the others are named. Raises `NotPermitted` if there is none."""
    from bisnesctl.errors import NotPermitted
    from bisnesctl.host import disk
    from bisnesctl.terminal import output

    forbidden = [each.path for each in files if not disk.is_readable(each.path)]
    if forbidden and all(each.path in forbidden or not each.path.exists() for each in files):
        raise NotPermitted(disk.explain_forbidden(forbidden[0]))
    if forbidden:
        names = ", ".join(each.name for each in forbidden[1:])
        output.warn(disk.explain_forbidden(forbidden[0]) + (f". The same: {names}" if names else ""))
    return [each for each in files if each.path not in forbidden]


def _condition(
    deployment: "Deployment", since: str | None, until: str | None, level: str | None, patterns: list[str],
    ignore_case: bool, bot: str | None,
) -> "Filter":  # fmt: skip
    from bisnesctl import moments
    from bisnesctl.errors import UsageError
    from bisnesctl.logs.filters import Filter
    from bisnesctl.logs.formats import LEVELS

    if level is not None and level.lower() not in LEVELS:
        raise UsageError(f"there is no level {level}. There are: {', '.join(LEVELS)}")
    condition = Filter(
        since=None if since is None else moments.parse(since, "--since"),
        until=None if until is None else moments.parse(until, "--until"),
        level=0 if level is None else LEVELS[level.lower()],
        patterns=tuple(_pattern(each, ignore_case) for each in patterns),
        bot=None if bot is None else _bot(deployment, bot),
    )
    if condition.since is not None and condition.until is not None and condition.until < condition.since:
        raise UsageError(f"--until {until} is before --since {since}")
    return condition


def _pattern(text: str, ignore_case: bool) -> re.Pattern[str]:
    from bisnesctl.errors import UsageError

    try:
        return re.compile(text, re.IGNORECASE if ignore_case else 0)
    except re.error as error:
        raise UsageError(
            f"--grep {text} is no regular expression: {error}. For plain text, put \\ before . * ( [ ?"
        ) from None


def _bot(deployment: "Deployment", name: str) -> "BotPattern":
    from bisnesctl.bots import store
    from bisnesctl.database.postgres import connected
    from bisnesctl.errors import BisnesError, UsageError
    from bisnesctl.logs.filters import BotPattern
    from bisnesctl.terminal import output

    company, dash, phone = name.rpartition("-")
    if not (dash and company and phone.isdecimal()):
        raise UsageError(f"{name} is no bot: name the company and the phone index, such as 0128-2")
    ids: list[int] = []
    try:
        with connected(deployment.settings.database_dsn, timeout=2) as connection:
            ids = [each.id for each in store.known(connection, company, int(phone))]
    except BisnesError as error:
        output.warn(f"lines that name the bot by its number in the database are not shown: {error}")
    return BotPattern(company, int(phone), ids[0] if ids else None)


def _trace(files: "list[LogFile]", message: str, zone: tzinfo | None) -> "Trace":
    from bisnesctl.errors import UsageError
    from bisnesctl.logs.files import find
    from bisnesctl.logs.filters import Trace
    from bisnesctl.logs.merge import Extent, merged

    if not message.strip():
        raise UsageError("--message needs the id of a message, or of its request (X-Request-Id)")
    return Trace(message.strip(), merged([find(file) for file in files], Extent(), zone))


def _explain_nothing(deployment: "Deployment", view: "LogView", message: str | None) -> None:
    """Says why nothing is shown, and what to type."""
    from bisnesctl.terminal import output

    if message is None:
        output.say("no line matches")
    else:
        output.say(
            f"no line is about {output.escape(message)}. A message that is sent without trouble is logged at debug "
            "alone: `bisnesctl log-level all debug --for 10m`"
        )


def _zone(deployment: "Deployment") -> tzinfo | None:
    from bisnesctl.logs.zones import zone_of

    return zone_of(deployment.supervisor_pid() or 0)


def _files(deployment: "Deployment", names: list[str], errors_only: bool) -> "list[LogFile]":
    from bisnesctl.errors import NotPermitted, NotRunning
    from bisnesctl.host import disk
    from bisnesctl.logs.files import LogFile, files_of, names_in
    from bisnesctl.processes.extras import left_out_explained
    from bisnesctl.processes.selection import resolve

    folder = deployment.settings.log_dir
    if not disk.is_readable(folder):
        raise NotPermitted(disk.explain_forbidden(folder))
    kept = set(names_in(folder))
    wanted = [name for name in names if name not in (SUPERVISORD, "all")]
    instances = deployment.instances
    known = {word for each in instances for word in (each.name, each.program.name)}
    former = [name for name in wanted if name in kept and name not in known]  # instances that no longer exist
    with left_out_explained(deployment.settings):
        chosen = [each.name for each in resolve((name for name in wanted if name not in former), instances)] + former
    if not wanted and (not names or "all" in names):
        chosen = list(dict.fromkeys([*(each.name for each in instances if each.name in kept), *sorted(kept)]))
        chosen = [name for name in chosen if name != SUPERVISORD]
    files = [file for name in chosen for file in files_of(folder, name, errors_only)]
    own = [LogFile(SUPERVISORD, folder / "supervisord.log", is_error=False)]
    if names:
        return files + (own if SUPERVISORD in names or ("all" in names and not errors_only) else [])
    found = [file for file in [*files, *([] if errors_only else own)] if file.path.exists()]
    if not found:
        deployment.check_started()
        raise NotRunning(f"there are no logs in {folder} yet. Start it: `{deployment.start_command}`")
    return found
