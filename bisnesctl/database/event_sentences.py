"""A process event as a sentence: who, what, how it ended, and what the guard decided."""

from collections.abc import Callable, Mapping
from typing import Any

from bisnesctl import moments
from bisnesctl.database.event_log import LoggedEvent
from bisnesctl.formatting import duration

#: Properties of an event that its line shows already, or that mean nothing to people.
_KNOWN = ("instance", "instances", "host", "serial", "from_state", "pid", "session", "company", "phoneIndex", "chat",
          "event", "expected")  # fmt: skip
#: Characters of a value of an event that has no sentence of its own, at most.
_MAX_VALUE_LENGTH = 200


def sentence(event: LoggedEvent) -> str:
    """The event for people, without its time and subject."""
    if event.kind.startswith("operator_"):
        return _operator(event)
    if event.kind in _SENTENCES:
        return _SENTENCES[event.kind](event)
    payload = event.data.get("payload")
    if isinstance(payload, dict) and "status" in payload:
        return _status(payload)
    if "field" in event.data and "value" in event.data:
        return f"the provider reports {event.data['field']}: {_value(event.data['value'])}"
    return _joined(event.kind.replace("_", " "), _reason(event) or _pairs(event.data))


def _operator(event: LoggedEvent) -> str:
    data = event.data
    terminal = f" on {data['tty']}" if data.get("tty") else ""
    command = f"`bisnesctl {data['command']}`" if data.get("command") else event.kind.removeprefix("operator_")
    outcome = f"; {data['outcome']}" if data.get("outcome") else ""
    return f"{data.get('user') or 'somebody'}{terminal} typed {command}{outcome}"


def _running(event: LoggedEvent) -> str:
    pid = event.data.get("pid")
    return f"it runs (pid {pid})" if pid else "it runs"


def _exited(event: LoggedEvent) -> str:
    return _joined("it ended by itself", _reason(event))


def _restarting(event: LoggedEvent) -> str:
    pause = _number(event.data.get("until"), event.at)
    when = "at once" if pause is None or pause < 1 else f"in {duration(pause)}"
    return f"{_end(event)}; the guard starts it again {when}"


def _blocked(event: LoggedEvent) -> str:
    until = event.data.get("until")
    end = f"until {moments.shown(until)}" if isinstance(until, int | float) else "until an operator starts it"
    return f"{_end(event)}; the guard blocks it {end}"


def _failed(event: LoggedEvent) -> str:
    return f"{_end(event)}; the guard does not start it again"


def _end(event: LoggedEvent) -> str:
    """How it ended, how long it had lived and with how much memory, as far as the event says."""
    lived = event.data.get("lived")
    after = f"after {duration(lived)}" if isinstance(lived, int | float) else ""
    memory = event.data.get("memory_mb")
    used = f"with {memory} MB" if isinstance(memory, int | float) else ""
    how = _hung(event) if event.data.get("hung") else _reason(event) or "it ended"
    return ", ".join(each for each in (how, after, used) if each)


def _supervisord_ended(event: LoggedEvent) -> str:
    seen, down = event.data.get("seen_at"), event.data.get("down_seconds")
    what = "supervisord ended without a stop"
    if event.data.get("rebooted"):
        what = "the machine was restarted, and supervisord ended with it"
    elif event.data.get("signal"):
        what = f"{what}: it was sent {event.data['signal']}"
    if not isinstance(seen, int | float) or not isinstance(down, int | float):
        return what
    return f"{what}; last seen {moments.shown(seen)}, down for {duration(down)}"


def _interrupted(event: LoggedEvent) -> str:
    count = len(event.instances)
    left = event.subject if count == 1 else f"{count} processes"
    command = event.data.get("command")
    return f"`bisnesctl {command}` was interrupted before it had restarted {left}; type it again"


def _hung(event: LoggedEvent) -> str:
    often = event.data.get("hangs")
    count = f" ({often} times within an hour)" if isinstance(often, int) and often > 1 else ""
    return _joined("it hung", _reason(event)) + count


def _memory(event: LoggedEvent) -> str:
    return f"{_reason(event) or 'it uses more memory than its limit'}; the guard restarts it"


def _unknown(event: LoggedEvent) -> str:
    count = event.data.get("messages")
    messages = "1 message" if count == 1 else f"{count} messages"
    return f"{messages} may have been sent, without a status report since: `bisnesctl dead-letters resolve`"


def _session_blocked(event: LoggedEvent) -> str:
    until = event.data.get("until")
    return f"it is blocked {f'until {until}' if until else 'until an operator unblocks it'}: {_reason(event)}"


def _corrected(event: LoggedEvent) -> str:
    return f"its ids were corrected: {_value(event.data.get('before'))}, now {_value(event.data.get('now'))}"


def _paused(event: LoggedEvent) -> str:
    seconds = event.data.get("seconds")
    end = f"for {duration(seconds)}" if isinstance(seconds, int | float) else "until it is resumed"
    payload = event.data.get("payload")
    reason = payload.get("reason") if isinstance(payload, dict) else None
    return f"{reason or 'paused by an operator'} ({event.data.get('by')}), {end}"


def _deleted(event: LoggedEvent) -> str:
    return _joined("old rows were deleted", _counts(event.data.get("deleted")))


def _retention_failed(event: LoggedEvent) -> str:
    return _joined("old rows could not be deleted", _value(event.data.get("failed") or ""))


def _counts(numbers: object) -> str:
    """Numbers by kind, such as `3 metrics`."""
    return ", ".join(f"{count} {kind}" for kind, count in numbers.items()) if isinstance(numbers, dict) else ""


def _owner_changed(event: LoggedEvent) -> str:
    before = f" after {event.data['from']}" if event.data.get("from") else ""
    return _joined(
        f"{event.data.get('to') or 'whichever side runs'} serves it{before}", str(event.data.get("by") or "")
    )


_SENTENCES: Mapping[str, Callable[[LoggedEvent], str]] = {
    "process_starting": lambda event: "it starts",
    "process_running": _running,
    "process_stopping": lambda event: "it is asked to stop",
    "process_stopped": lambda event: "it has stopped",
    "process_exited": _exited,
    "process_backoff": lambda event: _joined("it ended during its start", _reason(event)),
    "process_fatal": lambda event: _joined("it could not be started", _reason(event)),
    "process_unknown": lambda event: "supervisord does not know its state",
    "process_restarting": _restarting,
    "process_blocked": _blocked,
    "process_failed": _failed,
    "process_hung": _hung,
    "process_restored": lambda event: _joined("the guard started it, because it should run", _reason(event)),
    "process_healed": lambda event: "it was down though nobody stopped it; cron started it again",
    "alert_fired": lambda event: _joined(f"alert {event.data.get('alert')} fires", _reason(event)),
    "alert_resolved": lambda event: f"alert {event.data.get('alert')} is resolved",
    "memory_exceeded": _memory,
    "messages_unknown": _unknown,
    "command_interrupted": _interrupted,
    "supervisord_ended": _supervisord_ended,
    "retention_failed": _retention_failed,
    "rows_deleted": _deleted,
    "session_blocked": _session_blocked,
    "session_unblocked": lambda event: _reason(event) or "its block ended",
    "bot_ids_corrected": _corrected,
    "bot_paused": _paused,
    "bot_owner_changed": _owner_changed,
    "bot_resumed": lambda event: f"its pause was ended by {event.data.get('by') or 'an operator'}",
}


def _status(payload: Mapping[str, Any]) -> str:
    return _joined(f"it is {payload['status']}", str(payload.get("reason") or ""))


def _reason(event: LoggedEvent) -> str:
    return str(event.data.get("reason") or event.data.get("error") or "")


def _pairs(data: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(each)}" for name, each in data.items() if name not in _KNOWN and each is not None)


def _value(value: object) -> str:
    if isinstance(value, dict):
        text = ", ".join(f"{name} {each}" for name, each in value.items() if each is not None)
    else:
        text = str(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[: _MAX_VALUE_LENGTH - 1]}…"


def _number(until: object, at: float) -> float | None:
    return until - at if isinstance(until, int | float) else None


def _joined(what: str, why: str) -> str:
    return f"{what}: {why}" if why else what
