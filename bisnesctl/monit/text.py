"""The texts of the live screen around its list. Words of others are escaped, and none of them is markup."""

from collections.abc import Iterable, Sequence

from rich.text import Text

from bisnesctl import formatting
from bisnesctl.database import event_rows
from bisnesctl.database.event_log import LoggedEvent
from bisnesctl.database.event_sentences import sentence
from bisnesctl.diagnosis.chain import Diagnosis
from bisnesctl.logs.records import Record
from bisnesctl.monit.actions import Outcome
from bisnesctl.monit.rows import Level, Row
from bisnesctl.monit.source import Details, Snapshot
from bisnesctl.monit.table import SIGNS
from bisnesctl.terminal import event_view, printable

_LINKS = {
    "blocks": ("✗", "red"),
    "delays": ("…", "yellow"),
    "warns": ("!", "yellow"),
    "unseen": ("?", "yellow"),
    "ok": ("✓", "green"),
}
_CONDITIONS = {
    "new": "nothing was started here yet. Type: {command}",
    "stopping": "everything is being stopped",
    "stopped": "everything was stopped on purpose. S starts it: {command}",
    "died": "supervisord does not run, although nobody stopped it. S starts it: {command}",
    "silent": "supervisord does not answer. Type: bisnesctl stop",
}
#: Columns below which the lines at the top leave out the machine and the folder.
_NARROW = 70
#: Columns of the labels of details.
_LABEL = 8
#: Last lines of the output of an action that failed.
_FAILURE_LINES = 4
#: Seconds of silence of the guard and of alerts that are much.
_SILENCE_SECONDS = 30


# --- The lines at the top --------------------------------------------------------------------------------------------


def header(snapshot: Snapshot, now: float, width: int) -> Text:
    """The lines about the whole deployment. The first two are cut at this width, troubles are not."""
    found, machine = snapshot.overview, snapshot.overview.machine
    mode = f"{found.mode}, sandbox" if found.sandbox else found.mode or "never started"
    since = f" for {formatting.duration(now - found.since)}" if found.since and found.condition == "running" else ""
    used = f"{formatting.size(machine.memory_used_bytes)} of {formatting.size(machine.memory_total_bytes)}"
    load = f"load {machine.load[0]:.1f} of {machine.processors}"
    if width < _NARROW:
        first = Text.assemble((mode + since, "bold"), f"; {load}")
        second = Text.assemble(*_watchers(snapshot))
    else:
        first = Text.assemble((mode + since, "bold"), f"; release {_one(found.release)}; {_one(found.home)}")
        second = Text.assemble(f"{_one(machine.host)}; {load}; memory {used}; ", *_watchers(snapshot))
    for each in (first, second):
        each.truncate(width, overflow="ellipsis")
    lines = [first, second]
    lines += [Text(_one(each), "red") for each in _alarms(snapshot)]
    lines += [Text(_one(each), "yellow") for each in _notices(snapshot, now)]
    return Text("\n").join(lines)


def _watchers(snapshot: Snapshot) -> list[tuple[str, str]]:
    found = snapshot.overview
    watchers = [("guard", found.guard_seen_seconds)]
    watchers += [("alerts", found.alerts_seen_seconds)] if found.has_alerts else []
    running = found.condition == "running"
    parts: list[tuple[str, str]] = []
    for name, seconds in watchers:
        silent = running and (seconds is None or seconds > _SILENCE_SECONDS)
        seen = "never seen" if seconds is None else f"{formatting.duration(seconds)} ago"
        parts.append((f"{'; ' if parts else ''}{'✗ ' if silent else ''}{name} {seen}", "red" if silent else ""))
    return parts


def _alarms(snapshot: Snapshot) -> Iterable[str]:
    found = snapshot.overview
    if found.failed_start is not None:
        yield f"✗ {found.failed_start.text}. Type: {found.failed_start.command}"
    elif found.condition != "running":
        yield f"✗ {_CONDITIONS[found.condition].format(command=found.start_command)}"
    for disk in found.disks:
        yield f"✗ disk {disk.mount}: {disk.reason}"
    if found.database_unavailable:
        yield f"✗ PostgreSQL was not read: {found.database_unavailable}"
    for problem in snapshot.problems:
        yield f"✗ {problem}"


def _notices(snapshot: Snapshot, now: float) -> Iterable[str]:
    found = snapshot.overview
    if snapshot.owner:
        yield f"! read-only: the deployment belongs to {snapshot.owner}"
    if snapshot.bots and snapshot.bots_at is not None and snapshot.bots_at < snapshot.at - 1:
        yield f"! bots as they were {formatting.duration(now - snapshot.bots_at)} ago"
    if found.drift and found.condition == "running":
        first, others = found.drift[0], len(found.drift) - 1
        yield f"! drift: {first.text} ({first.step}){f' and {others} more' if others else ''}"


# --- The details -----------------------------------------------------------------------------------------------------


def summary(row: Row, details: Details | None) -> Text:
    """Wanted, actual, why they differ, next, what to type; then the links of the chain that are not as they should."""
    lines = [_head(row)]
    if row.reason:
        lines.append(_fact("reason", row.reason, SIGNS[row.level][1] if row.level is not Level.GOOD else ""))
    lines += _diagnosis(details, every=False)
    return Text("\n").join(lines)


def why(row: Row, details: Details | None) -> Text:
    """The whole chain."""
    return Text("\n").join([_head(row), *_diagnosis(details, every=True)])


def _head(row: Row) -> Text:
    sign, colour = SIGNS[row.level]
    kind = "bot" if row.is_bot else row.group
    parts = [] if row.memory_bytes is None else [f"memory {formatting.size(row.memory_bytes)}"]
    parts += [] if row.memory_limit_bytes is None else [f"limit {formatting.size(row.memory_limit_bytes)}"]
    parts += [] if row.is_bot else [f"{row.recent_restarts}/{row.restarts} restarts"]
    parts += [] if row.waiting is None else [f"{row.waiting} waiting"]
    about = "; ".join(filter(None, (f"{kind}, {_one(row.state)}", ", ".join(parts))))
    return Text.assemble((f"{sign} {_one(row.name)}", f"bold {colour}"), f" {about}")


def _diagnosis(details: Details | None, every: bool) -> list[Text]:
    if details is None:
        return [Text("reading …", "dim")]
    found = details.diagnosis
    if found is None:
        return [_fact("unseen", details.refusal, "yellow")]
    lines = [_fact("wanted", found.wanted), _fact("now", found.actual), *_why(found)]
    for each in found.links:
        if every or each.state != "ok":
            sign, colour = _LINKS[each.state]
            lines.append(Text.assemble((f"{sign} ", colour), (_one(each.about), "bold"), f" {_one(each.text)}"))
    return lines


def _why(found: Diagnosis) -> list[Text]:
    cause = found.cause
    if cause is None:
        return [_fact("why", "nothing prevents it", "green")]
    lines = [
        _fact("why", f"{cause.about}: {cause.text}", _LINKS[cause.state][1]),
        _fact("next", cause.next or "nothing happens without you"),
    ]
    return lines + [_fact("type" if place == 0 else "", step, "bold") for place, step in enumerate(found.steps)]


def _fact(label: str, value: str, style: str = "") -> Text:
    return Text.assemble((f"{label:<{_LABEL}}", "dim"), (_one(value), style))


# --- Events and logs -------------------------------------------------------------------------------------------------


def events(details: Details | None, count: int | None = None) -> Text:
    """The last events, the newest first."""
    if details is None:
        return Text("reading …", "dim")
    rows = event_rows.joined(details.events.events[::-1])[::-1]
    lines = [_event(each) for each in rows[:count]] or [Text("none is recorded", "dim")]
    if details.events.unavailable:
        lines.append(Text(f"older ones were not read: {_one(details.events.unavailable)}", "yellow"))
    return Text("\n").join(lines)


def _event(event: LoggedEvent) -> Text:
    return Text.assemble(
        (event_view.short_time(event.at), "dim"),
        (f" {event.severity} ", event_view.COLOURS.get(event.severity, "red")),
        _one(sentence(event)),
    )


def logs(records: Sequence[Record] | None, names: Sequence[str], count: int | None = None) -> Text:
    """The last records, the newest last. Of several processes, each is named."""
    if records is None:
        return Text("reading …", "dim")
    shown = [_record(each, len(names) > 1) for each in (records if count is None else records[-count:])]
    return Text("\n").join(shown) if shown else Text("nothing is logged", "dim")


def _record(record: Record, named: bool) -> Text:
    found = Text("\n").join(Text.from_ansi(printable.log_line(line)) for line in record.text.split("\n"))
    name = f"{_one(record.file.instance)} " if named else ""
    sign = ("! ", "red") if record.file.is_error else ("| ", "dim")
    return Text.assemble((name, "cyan"), sign, found)


def _one(words: str) -> str:
    return printable.one_line(words)


# --- The end of an action --------------------------------------------------------------------------------------------


def outcome(found: Outcome) -> Text:
    """The command with the end of its output: all in one line if it went well."""
    command = f"bisnesctl {' '.join(found.words)}"
    lines = found.output.splitlines()
    if found.ok:
        return Text(_one(f"✓ {command}{f': {lines[-1].strip()}' if lines else ''}"), "green")
    shown = [f"✗ {command} (exit code {found.exit_code})", *lines[-_FAILURE_LINES:]]
    return Text("\n".join(map(_one, shown)), "red")
