"""The names of log events are stable: literals of one form, so that operators can search for them."""

import pytest

from scripts.lib.log_events import ROOT, LogEvent, collect, events_of

#: Rooms whose events do not have stable names yet.
NOT_YET = ("services/api/", "services/connectors/", "services/sandbox/")


def found_in(tmp_path, code: str) -> list[LogEvent]:
    path = tmp_path / "module.py"
    path.write_text(code)
    return events_of(path, tmp_path)


def test_every_log_event_has_a_stable_name():
    events = [event for event in collect() if not event.path.startswith(NOT_YET)]
    assert len(events) > 30
    assert [event for event in events if not event.has_stable_name] == []


def test_one_name_has_one_level_in_a_file():
    levels: dict[tuple[str, str | None], set[str]] = {}
    for event in collect():
        if not event.path.startswith(NOT_YET):
            levels.setdefault((event.path, event.name), set()).add(event.level)
    mixed = {name for name, found in levels.items() if len(found) > 1}
    assert mixed == {("services/wakeups.py", "redis.unavailable")}  # a session without Redis is no news for operators


def test_a_room_is_no_longer_listed_once_its_events_have_stable_names():
    for room in NOT_YET:
        assert [event for event in collect(ROOT / room) if not event.has_stable_name], f"remove {room} from NOT_YET"


@pytest.mark.parametrize(
    "code",
    [
        'log.info("a sentence about something")',
        'log.info("word")',
        'log.info("Session.started")',
        'log.info(f"session.{what}")',
        "log.info(name)",
        "log.info()",
        'log.exception("it failed", path=path)',
    ],
)
def test_a_name_that_is_not_stable_is_found(tmp_path, code):
    (event,) = found_in(tmp_path, code)
    assert not event.has_stable_name


def test_name_level_fields_and_place_of_an_event_are_found(tmp_path):
    code = '\n\nlog.exception("session.state_changed", bot=bot, reason=str(error), exc_info=error, **more)'
    (event,) = found_in(tmp_path, code)
    assert event == LogEvent("session.state_changed", "error", ("bot", "reason", "**"), "module.py", 3)
    assert event.has_stable_name


def test_other_calls_are_no_log_events(tmp_path):
    assert found_in(tmp_path, 'math.log(3)\nlog.bind(bot=1)\nlogger.info("a sentence")') == []
