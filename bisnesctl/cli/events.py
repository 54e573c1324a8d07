"""`bisnesctl events`: what happened to processes and bots."""

from typing import TYPE_CHECKING, Annotated

import typer

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import WATCH, AsJson, app, example, running_deployment

if TYPE_CHECKING:
    from bisnesctl.database.event_log import EventFilter, EventLog
    from bisnesctl.processes.deployment import Deployment

#: Seconds between looks for new events.
_FOLLOW_INTERVAL_SECONDS = 1.0
#: Seconds by which an event may be stored after it happened, so that following misses none.
_DELAY_SECONDS = 120.0
#: Events that are looked at each time.
_FOLLOW_LIMIT = 1000

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="Programs, instances, supervisord, or bots such as 0128-2."),
]


@app.command(
    rich_help_panel=WATCH,
    epilog=example(
        "bisnesctl events --since 1h", "bisnesctl events api-0 --severity warning", "bisnesctl events 0128-2 --follow"
    ),
)
@reads
def events(
    names: Names = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only later ones: 30m, 2h or 1d (ago), 08:30, 2026-01-31T08:30.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only earlier ones.")] = None,
    severity: Annotated[
        str, typer.Option(metavar="LEVEL", help="Only this and worse: info, warning, error or critical.")
    ] = "info",
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="Only these kinds, such as process_restarting or 'operator_*'."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-n",
            min=1,
            help="How many of the newest to show. Default: 50, or 5000 with a time.",
            show_default=False,
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep showing new ones.")] = False,
    json: AsJson = False,
) -> None:
    """Show what happened: ends, restarts, blocks, commands of operators, states of bots; the newest is the last.

    Events come from the database, and from the guard's files while it is unavailable. If older events are left out, the
    last line says how many.
    """
    from bisnesctl.health import event_history

    deployment = running_deployment()
    wanted = _filter(deployment, names or [], since, until, severity, kind or [], limit)
    found = event_history.read(deployment, wanted, count_older=True)
    _remark(found)
    if not found.events and not follow and not json:
        _explain_none(deployment, names or [], wanted)
    _show(found, as_json=json, lines=follow)
    _say_older(found)
    if follow:
        _follow(deployment, wanted, found, json)


def _filter(
    deployment: "Deployment", names: list[str], since: str | None, until: str | None, severity: str, kinds: list[str],
    limit: int | None,
) -> "EventFilter":  # fmt: skip
    from bisnesctl import moments
    from bisnesctl.database.event_log import DEFAULT_LIMIT, SEVERITIES, TIMED_LIMIT, EventFilter
    from bisnesctl.errors import UsageError
    from bisnesctl.health import event_history

    if severity not in SEVERITIES:
        raise UsageError(f"--severity {severity}: there are {', '.join(SEVERITIES)}")
    wanted = EventFilter(
        since=None if since is None else moments.parse(since, "--since"),
        until=None if until is None else moments.parse(until, "--until"),
        severity=severity,
        kinds=tuple(each for word in kinds for each in word.split(",") if each),
        limit=limit or (DEFAULT_LIMIT if since is None and until is None else TIMED_LIMIT),
    )
    if wanted.since is not None and wanted.until is not None and wanted.since > wanted.until:
        raise UsageError(f"--since {since} is later than --until {until}")
    return event_history.named(names, deployment.instances, wanted)


def _remark(found: "EventLog") -> None:
    from bisnesctl.terminal import output

    if found.unavailable:
        output.warn(f"only the guard's files were read, so older events are missing: {found.unavailable}")


def _say_older(found: "EventLog") -> None:
    from bisnesctl.terminal import output

    if found.older:
        events = "1 older event is" if found.older == 1 else f"{found.older} older events are"
        output.say(f"{events} not shown: -n {len(found.events) + found.older}")


def _explain_none(deployment: "Deployment", names: list[str], wanted: "EventFilter") -> None:
    from bisnesctl.health.event_history import suggestion
    from bisnesctl.terminal import output

    deployment.check_started()
    known = [name for each in deployment.instances for name in (each.name, each.program.name)]
    unknown = [name for name in names if name not in known]
    hint = suggestion(unknown[0], known) if unknown else ""
    narrowed = wanted.since or wanted.until or wanted.kinds or wanted.severity != "info"
    output.say(output.escape(f"no event {'matches' if narrowed else 'is recorded'}{hint}"))


def _show(found: "EventLog", as_json: bool, lines: bool) -> None:
    """Prints events, the newest last. `lines`: JSON as a line for each."""
    from bisnesctl.terminal import event_view, output, printable

    events = found.events[::-1]
    if not as_json:
        event_view.show(events)
    elif lines:
        for each in events:
            output.result(printable.as_json(event_view.as_dict(each), indent=None))
    else:
        output.print_json([event_view.as_dict(each) for each in events])


def _follow(deployment: "Deployment", wanted: "EventFilter", before: "EventLog", as_json: bool) -> None:
    """Prints new events until Ctrl-C. An end waits some seconds for the decision about it, which is in the same row."""
    import time
    from dataclasses import replace

    from bisnesctl.database import event_rows
    from bisnesctl.database.event_log import EventLog, LoggedEvent
    from bisnesctl.health import event_history

    seen = {each.key: each.at for each in before.events}
    start, unavailable = time.time(), before.unavailable
    waiting: list[LoggedEvent] = []
    try:
        while True:
            time.sleep(_FOLLOW_INTERVAL_SECONDS)
            since = max(start, time.time() - _DELAY_SECONDS)
            found = event_history.read(deployment, replace(wanted, since=since, limit=_FOLLOW_LIMIT))
            if bool(found.unavailable) != bool(unavailable):
                unavailable = found.unavailable
                _remark(found)
            fresh = [*(each for each in found.events if each.key not in seen), *waiting]
            seen = {key: at for key, at in seen.items() if at >= since} | {each.key: each.at for each in found.events}
            waiting = [] if as_json else event_rows.incomplete(fresh, time.time())
            _show(EventLog([each for each in fresh if each not in waiting]), as_json, lines=True)
    finally:
        _show(EventLog(waiting), as_json, lines=True)
