"""Shows the pages of `bisnesctl describe`: wanted, actual, why they differ, what is next, what to type, the rest."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from rich.text import Text

from bisnesctl import formatting, moments
from bisnesctl.database.event_log import LoggedEvent
from bisnesctl.settings import Settings
from bisnesctl.terminal import event_view, output, printable
from bisnesctl.views import process_roles
from bisnesctl.views.bot_page import BotPage
from bisnesctl.views.message_page import MessagePage
from bisnesctl.views.process_page import ProcessPage, RelatedProcess, ShownFile
from bisnesctl.views.supervisor_page import SupervisorPage

#: Columns of the labels.
_LABEL = 11
_INDENT = 2
#: Descendants and connections that are listed, at most.
_MAX_LISTED = 12
#: Variables that matter to our programs beside the settings.
_OWN_VARIABLE = re.compile(r"BISNES_|PYTHON|MALLOC_|TZ$|LANG$|LC_ALL$|PATH$|HOME$|(?i:https?_proxy|no_proxy|all_proxy)")
_SETTINGS = frozenset(name.upper() for name in Settings.model_fields)
_COLOURS = {"healthy": "green", "working": "green", "sending": "green", "read": "green", "delivered": "green"}

Page = ProcessPage | BotPage | MessagePage | SupervisorPage


def as_dict(page: Page) -> dict[str, Any]:
    """The page for programs."""
    kinds = {ProcessPage: "process", BotPage: "bot", MessagePage: "message", SupervisorPage: "supervisord"}
    return {"kind": kinds[type(page)]} | {each.name: _plain(getattr(page, each.name)) for each in fields(page)}


def _plain(value: Any) -> Any:
    if isinstance(value, LoggedEvent):
        return event_view.as_dict(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def show(page: Page, every_variable: bool = False) -> None:
    """Prints a page. `every_variable`: also those that do not matter to our programs."""
    match page:
        case ProcessPage():
            _show_process(page, every_variable)
        case BotPage():
            _show_bot(page)
        case MessagePage():
            _show_message(page)
        case SupervisorPage():
            _show_supervisor(page)


def _show_supervisor(page: SupervisorPage) -> None:
    _title(page.name, page.about)
    since = f" (pid {page.pid}, since {page.started_at})" if page.started_at else ""
    _answers(page.wanted, f"{page.actual}{since}", page.why, page.next, page.commands, page.wanted)
    _fact("log", page.log)
    _fact("config", page.config)
    _events("Events", page.events)
    _unseen(page.unseen)


# --- A process -------------------------------------------------------------------------------------------------------


def _show_process(page: ProcessPage, every_variable: bool) -> None:
    row = page.row
    _title(page.name, page.about)
    _answers(row.wanted, _actual(page), page.why, page.next, page.commands, row.status)
    for each in page.drift:
        own = each.text.partition(" with ")[2]
        _fact("drift", f"runs with {own}" if own else each.text, "yellow")
    _fact("release", row.release)
    _fact("bot", page.bot)
    _fact("waiting", _waiting(row.waiting, row.oldest_seconds))
    _section("Limits and use")
    _fact("memory", _memory(page))
    _fact("cpu", None if row.cpu_percent is None else f"{row.cpu_percent:.0f} % of a processor")
    _fact("files", _open_files(page))
    _fact("threads", None if page.limits.threads is None else f"{page.limits.threads}{_in_tree(page)}")
    _fact("restarts", f"{row.recent_restarts} within ten minutes, {row.restarts} since it was started on purpose")
    _fact("guard", _guard_policy(page))
    _section("Command")
    _fact("line", " ".join(process_roles.without_shim(page.command_line)))
    _fact("user", page.user)
    _fact("folder", page.directory)
    _fact("parents", _related(page.parents[:3]))
    _list("children", [_process(each) for each in page.children])
    _list("ports", page.ports)
    _list("connected", page.connections)
    _list("files", [_file(each) for each in page.files])
    _environment(page.environment, every_variable)
    _events("Restart history", page.history)
    _events("Events", page.events)
    for name, lines in page.log.items():
        if lines:
            _section(f"Log: {name}")
            for line in lines:
                output.print_indented(Text.from_ansi(printable.log_line(line)), _INDENT)
    _unseen(page.unseen)


def _environment(variables: Mapping[str, str], every: bool) -> None:
    """The variables that matter to our programs. The others come from the shell that started supervisord."""
    shown = [
        f"{name}={value}"
        for name, value in variables.items()
        if every or name in _SETTINGS or _OWN_VARIABLE.match(name)
    ]
    others = len(variables) - len(shown)
    _list("environment", [*shown, *([f"and {others} others (--env shows all)"] if others else [])], every=True)


def _actual(page: ProcessPage) -> str:
    row = page.row
    since = (
        f", for {formatting.duration(row.uptime_seconds)} (pid {row.pid}, since {page.started_at})" if row.pid else ""
    )
    session = f", {row.session}" if row.session else ""
    return f"{row.state}, {row.status}{session}{since}"


def _memory(page: ProcessPage) -> str:
    row = page.row
    limit = f"of {formatting.size(row.memory_limit_bytes)}" if row.memory_limit_bytes else "without a limit"
    if row.memory_bytes is None:
        return f"limit {limit.removeprefix('of ')}" if row.memory_limit_bytes else limit
    tree = f",{_in_tree(page)}" if page.children else ""
    return f"{formatting.size(row.memory_bytes)} {limit}{tree} (PSS: shared pages count by share)"


def _open_files(page: ProcessPage) -> str | None:
    limits = page.limits
    if limits.open_files is None:
        return None
    whose = f" by pid {limits.open_files_pid}, which has the most" if page.children else ""
    return f"{limits.open_files} open of {limits.open_files_limit}{whose}"


def _in_tree(page: ProcessPage) -> str:
    return f" in {len(page.children) + 1} processes" if page.children else ""


def _guard_policy(page: ProcessPage) -> str:
    limits = page.limits
    if not limits.max_restarts:
        return "does not restart it"
    return (
        f"starts it again after {limits.restart_delay_seconds:g} s, with doubled pauses if it lived less than "
        f"{limits.min_uptime_seconds} s, up to {limits.max_restarts} times in a row; a stop may take "
        f"{limits.stop_seconds} s"
    )


def _related(processes: Sequence[RelatedProcess]) -> str:
    return " ← ".join(f"{each.pid} {each.role}" for each in processes)


def _process(each: RelatedProcess) -> str:
    return f"{each.pid} {formatting.size(each.memory_bytes)} {each.role}"


def _file(each: ShownFile) -> str:
    if each.bytes is None:
        return f"{each.purpose}: {each.path} (there is none)"
    return f"{each.purpose}: {each.path} ({_bytes(each.bytes)}, {each.changed_at})"


def _bytes(number: int) -> str:
    return formatting.size(number) if number >= 2**20 else f"{number / 1024:.1f} kB"


# --- A bot -----------------------------------------------------------------------------------------------------------


def _show_bot(page: BotPage) -> None:
    _title(f"bot {page.name}", f"{page.type}, channel {page.channel}")
    _answers(page.wanted, page.actual, page.why, page.next, page.commands, page.actual.lower())
    _section("Number")
    _fact("number", page.number)
    _fact("number id", page.phone_number_id)
    _fact("account", page.account)
    _fact("status", page.status)
    _fact("check", f"{page.check}, at {moments.shown_iso(page.checked_at or '?')}" if page.check else "none yet")
    _list("problems", [f"{each.get('text')} {each.get('next') or ''}".strip() for each in page.problems])
    _section("Messages")
    _fact("waiting", _waiting(page.waiting, page.oldest_seconds))
    _fact("last sent", page.last_sent_at or "none within 30 days")
    _fact("received", page.last_received_at or "none within 30 days")
    _fact("limits", _pairs(page.limits) or "those of the channel")
    for name in ("hold", "outage", "block", "session"):
        _fact(name, _pairs(getattr(page, name) or {}))
    _fact("process", page.session_process)
    _section("Webhooks of its company")
    for each in page.webhooks:
        state = "active" if each.active else "off"
        trouble = f", {each.failures} failures in a row: {each.last_error}" if each.failures else ""
        delivered = f", last delivered {moments.shown_iso(each.last_delivered_at)}" if each.last_delivered_at else ""
        _fact("webhook", f"{each.url}: {state}, {each.pending} pending{delivered}{trouble}")
    if not page.webhooks:
        _fact("webhook", "none")
    _events("Events", page.events)
    _unseen(page.unseen)


# --- A message -------------------------------------------------------------------------------------------------------


def _show_message(page: MessagePage) -> None:
    direction = "incoming" if page.direction == "received" else "outgoing"
    _title(f"message {page.id}", f"{direction} {page.content_type or 'message'}")
    _answers(page.wanted, page.status or "?", page.why, page.next, page.commands, page.status or "")
    _fact("bot", f"{page.company}-{page.phone}, channel {page.channel}")
    _fact("chat", page.chat)
    _fact("provider id", page.provider_id)
    _fact("attempts", page.attempts)
    _section("Life")
    for step in page.timeline:
        others = _pairs({name: step.get(name) for name in ("attempt", "code", "error")})
        line = f"{moments.shown_iso(str(step.get('at')))}  {step.get('status')}{f'  {others}' if others else ''}"
        output.print_indented(Text(printable.one_line(line)), _INDENT)
    if page.content is not None:
        _section("Content")
        text = page.content if isinstance(page.content, str) else printable.as_json(page.content)
        for line in text.splitlines():
            output.print_indented(Text(printable.one_line(line)), _INDENT)


# --- Parts -----------------------------------------------------------------------------------------------------------


def _title(name: str, about: str) -> None:
    output.out().print(Text.assemble((printable.one_line(name), "bold"), ": ", printable.one_line(about)))


def _section(title: str) -> None:
    output.out().print()
    output.out().print(Text(title, "bold"))


def _answers(wanted: str, actual: str, why: str, following: str, commands: Iterable[str], state: str) -> None:
    _fact("wanted", wanted)
    _fact("actual", actual, _COLOURS.get(state, "" if not why else "red"))
    _fact("why", why or "as wanted")
    _fact("next", following)
    for place, command in enumerate(commands):
        _fact("" if place else "type", command, "bold")


def _fact(label: str, value: object, style: str = "") -> None:
    """A line with a label; nothing if there is no value. A long value continues below itself."""
    if value in (None, ""):
        return
    console, place = output.out(), _INDENT + _LABEL + 1
    words = Text(printable.one_line(moments.shown_iso(str(value))), style)
    first, *rest = [words] if output.is_piped() else words.wrap(console, max(console.width - place, 20)) or [words]
    first.rstrip()
    console.print(Text(" " * _INDENT) + Text(f"{label:<{_LABEL}} ", "dim") + first, soft_wrap=True)
    for line in rest:
        output.print_indented(line, place)


def _list(label: str, values: Sequence[str], every: bool = False) -> None:
    shown = values if every else values[:_MAX_LISTED]
    for place, value in enumerate(shown):
        _fact("" if place else label, value)
    if len(values) > len(shown):
        _fact("", f"and {len(values) - len(shown)} more (--json has all)")


def _events(title: str, events: Sequence[LoggedEvent]) -> None:
    _section(title)
    event_view.show(events[::-1], _INDENT, with_subject=False)
    if not events:
        output.print_indented(Text("none is recorded", "dim"), _INDENT)


def _unseen(unseen: Sequence[str]) -> None:
    if unseen:
        _section("Not seen")
        for each in unseen:
            output.print_indented(Text(printable.one_line(each), "yellow"), _INDENT)


def _waiting(waiting: int | None, oldest_seconds: float | None) -> str | None:
    if waiting is None:
        return None
    return f"{waiting}, the oldest for {formatting.duration(oldest_seconds)}" if waiting else "nothing"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_value(value)}" for name, value in values.items() if value is not None)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {each}" for name, each in value.items())
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
    return moments.shown_iso(str(value))
