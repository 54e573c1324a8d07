"""The names of log events are stable: literals of one form, so that operators can search for them."""

import pytest

from scripts.lib.log_events import LogEvent, collect, events_of


def found_in(tmp_path, code: str) -> list[LogEvent]:
    path = tmp_path / "module.py"
    path.write_text(code)
    return events_of(path, tmp_path)


def test_every_log_event_has_a_stable_name():
    events = collect()
    assert len(events) > 30
    assert [event for event in events if not event.has_stable_name] == []


def test_one_name_has_one_level_in_a_file():
    levels: dict[tuple[str, str | None], set[str]] = {}
    for event in collect():
        levels.setdefault((event.path, event.name), set()).add(event.level)
    mixed = {name for name, found in levels.items() if len(found) > 1}
    assert mixed == {
        ("bisnesctl/guard/guard.py", "instance.restart_scheduled"),  # after an end, or on purpose
    }


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


def test_a_name_that_depends_on_something_is_two_events(tmp_path):
    events = found_in(tmp_path, 'log.warning("alert.fired" if fired else "alert.resolved", alert=name)')
    assert [event.name for event in events] == ["alert.fired", "alert.resolved"]


def test_a_condition_is_an_event_at_its_beginning_and_one_at_its_end(tmp_path):
    code = """
class LoggedCondition:
    def begin(self): log.warning(self._began)

unsaved = LoggedCondition("alerts.state_unsaved", "alerts.state_saved")"""
    began, ended = found_in(tmp_path, code)
    assert (began.name, began.level, began.fields) == ("alerts.state_unsaved", "warning", ("reason",))
    assert (ended.name, ended.level) == ("alerts.state_saved", "info")


def test_the_programs_outside_of_the_services_are_included():
    names = {event.name for event in collect()}
    assert {"alert.fired", "alerts.started", "guard.state_unsaved", "instance.hung", "audit.delivery_paused"} <= names


def test_other_calls_are_no_log_events(tmp_path):
    assert found_in(tmp_path, 'math.log(3)\nlog.bind(bot=1)\nlogger.info("a sentence")') == []
