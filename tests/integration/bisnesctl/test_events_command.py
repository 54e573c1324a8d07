"""`bisnesctl events`: events of the database and of the guard's files, for people and programs."""

import json
import time

import psycopg2
import pytest

from bisnesctl import moments
from bisnesctl.database.event_log import SENDING, SPOOLS
from bisnesctl.database.process_events import ProcessEvent, ProcessEventWriter
from bisnesctl.processes import command_records
from bisnesctl.processes.topology import expand
from tests.support.waiting import wait_until

SPOOL = SPOOLS["guard"]


@pytest.fixture
def settings(database, environment):
    found = environment(DATABASE_URL=database)
    found.home.mkdir(parents=True, exist_ok=True)
    return found


@pytest.fixture
def rows(database):
    """Stores events: program, kind, severity, seconds ago, data."""
    connection = psycopg2.connect(database)
    connection.autocommit = True

    def store(*events):
        with connection.cursor() as cursor:
            for program, kind, severity, ago, data in events:
                cursor.execute(
                    "INSERT INTO process_events (process_name, event_type, severity, event_data, timestamp) "
                    "VALUES (%s, %s, %s, %s, now() - %s * interval '1 second')",
                    (program, kind, severity, json.dumps(data), ago),
                )

    yield store
    connection.close()


@pytest.fixture
def history(rows):
    rows(
        ("api", "process_restarting", "warning", 50, {"instance": "api-0", "reason": "it was killed"}),
        ("api", "process_running", "info", 40, {"instance": "api-0", "pid": "7"}),
        ("api", "process_failed", "critical", 30, {"instance": "api-1", "reason": "11 quick deaths"}),
        ("wwebjs", "session_status", "error", 20, {"session": "0128-2", "payload": {"status": "FAILED"}}),
        ("wwebjs-session", "process_hung", "error", 10, {"instance": "wwebjs-session-0128-2", "reason": "no page"}),
        ("meta", "messages_unknown", "warning", 4000, {"company": "0128", "phoneIndex": 0, "messages": 3}),
    )


def record(settings, *events):
    """Leaves events in the guard's file, as a guard that cannot reach the database does."""
    writer = ProcessEventWriter(settings.home / SPOOL, "")
    for instance, kind, at in events:
        writer.record(ProcessEvent("api", instance, kind, "error", at, {"reason": "it ended"}))


def kinds(said):
    return [(each["subject"], each["kind"]) for each in said.json]


def test_events_are_sentences_and_the_newest_is_the_last(settings, history, tool):
    lines = tool("events").out.splitlines()
    assert len(lines) == 6
    at = moments.shown(time.time() - 4000).removeprefix(time.strftime("%Y-%m-%d "))
    assert lines[0].strip().startswith(at[:4])
    assert lines[1].endswith("api-0                  it was killed; the guard starts it again at once")
    assert lines[-1].endswith("it hung: no page")


def test_a_narrow_terminal_loses_nothing(settings, history, tool):
    said = tool("events", width=80)
    assert max(len(line) for line in said.out.splitlines()) <= 80
    for words in (
        "it was killed; the guard starts it again at once",
        "critical",
        "api-1",
        "`bisnesctl dead-letters resolve`",
    ):
        assert words in " ".join(said.out.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["api"], ["process_restarting", "process_running", "process_failed"]),
        (["bisnesgpt-api"], ["process_restarting", "process_running", "process_failed"]),
        (["api-1"], ["process_failed"]),
        (["0128-2"], ["session_status", "process_hung"]),
        (["0128/2"], ["session_status", "process_hung"]),
        (["wwebjs-session-0128-2"], ["session_status", "process_hung"]),
        (["0128-0"], ["messages_unknown"]),
        (["api-1", "0128-0"], ["messages_unknown", "process_failed"]),
        (["--severity", "error"], ["process_failed", "session_status", "process_hung"]),
        (["--severity", "critical"], ["process_failed"]),
        (["--kind", "process_r*"], ["process_restarting", "process_running"]),
        (["--kind", "session_status,process_failed"], ["process_failed", "session_status"]),
        (["--since", "25s"], ["session_status", "process_hung"]),
        (["--since", "1h", "--until", "35s"], ["process_restarting", "process_running"]),
        (["--limit", "1"], ["process_hung"]),
    ],
)
def test_events_are_chosen(settings, history, tool, words, expected):
    assert [kind for _, kind in kinds(tool("events", "--json", *words))] == expected


def test_a_time_shows_all_events_since_and_others_are_counted(settings, rows, tool):
    lives = [{"instance": "api-0", "pid": str(pid)} for pid in range(70)]
    rows(*(("api", "process_running", "info", 100 + place, data) for place, data in enumerate(lives)))
    record(settings, ("api-0", "process_failed", time.time()))
    said = tool("events")
    assert said.out.count("\n") == 50
    assert said.err.splitlines()[-1] == "21 older events are not shown: -n 71"
    assert tool("events", "-n", "70").err.splitlines() == ["1 older event is not shown: -n 71"]
    for words in (["-n", "71"], ["--since", "1h"], ["--until", "1s"]):
        said = tool("events", *words)
        assert (said.out.count("\n") in (70, 71), said.err) == (True, "")
    assert len(tool("events", "--json", "--since", "1h").json) == 71
    found = tool("events", "--json")
    assert len(found.json) == 50
    assert "21 older events" in found.err


def test_the_guards_files_are_read_too_and_no_event_is_shown_twice(settings, rows, database, tool):
    now = time.time()
    record(settings, ("api-0", "process_failed", now - 3), ("api-1", "process_failed", now - 2))
    (settings.home / SPOOL).rename((settings.home / SPOOL).with_suffix(SENDING))
    record(settings, ("api-2", "process_failed", now - 1))
    assert [subject for subject, _ in kinds(tool("events", "--json"))] == ["api-0", "api-1", "api-2"]
    writer = ProcessEventWriter(settings.home / SPOOL, database)
    spooled = (settings.home / SPOOL).with_suffix(SENDING).read_text()
    writer.start()
    wait_until(
        lambda: not (settings.home / SPOOL).exists() and not (settings.home / SPOOL).with_suffix(SENDING).exists()
    )
    (settings.home / SPOOL).with_suffix(SENDING).write_text(spooled + '{"broken')  # stored, and not removed yet
    found = tool("events", "--json").json
    assert [(each["subject"], each["stored"]) for each in found] == [("api-0", True), ("api-1", True), ("api-2", True)]


def test_without_the_database_only_the_guards_files_are_read(environment, tool, monkeypatch):
    settings = environment(DATABASE_URL="postgresql://127.0.0.1:1/none")
    settings.home.mkdir(parents=True, exist_ok=True)
    record(settings, ("api-0", "process_failed", time.time()))
    api = [each for each in expand(settings) if each.program.name == "api"]
    with monkeypatch.context() as typed:
        typed.setattr("sys.argv", ["bisnesctl", "restart", "api"])
        command_records.write(settings.run_dir, "restart", api)
    said = tool("events")
    assert "it ended; the guard does not start it again" in said.out
    assert "typed `bisnesctl restart api`" in said.out
    assert said.err.count("\n") == 1
    assert "only the guard's files were read" in said.err
    assert "PostgreSQL" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["apii"], "there is no program, instance or bot apii: did you mean api"),
        (["--severity", "bad"], "--severity bad: there are info, warning, error, critical"),
        (["--since", "soon"], "--since soon: it is no time"),
        (["--since", "1h", "--until", "2h"], "--since 1h is later than --until 2h"),
    ],
)
def test_a_wrong_word_is_refused_in_one_line(settings, tool, words, message):
    said = tool("events", *words, code=2)
    assert message in said.text
    assert said.out == ""
