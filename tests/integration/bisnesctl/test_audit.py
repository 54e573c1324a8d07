"""The audit trail in the database: each record once, in order, also after an outage."""

from dataclasses import replace

import pytest

from bisnesctl.audit import delivery, reading, store, trail
from bisnesctl.audit.delivery import AuditDelivery
from bisnesctl.audit.record import AuditRecord, Outcome
from bisnesctl.audit.store import AuditFilter
from bisnesctl.database import postgres
from bisnesctl.errors import DatabaseUnavailable, MigrationsPending

RECORD = AuditRecord("cli", "alice", "pts/1", "keys revoke", ["3"], at=1_700_000_000.0)
ALL = AuditFilter()
NOWHERE = "postgresql://127.0.0.1:1/none"


@pytest.fixture
def settings(environment, database):
    found = environment(DATABASE_URL=database)
    found.home.mkdir()
    return found


def waiting(settings):
    return [record.id for _, record in trail.waiting(settings.home)]


def stored(settings, wanted=ALL):
    found = reading.read(settings, wanted)
    assert found.unavailable == ""
    return [each for each in found.records if each["stored"]]


def test_a_command_is_stored_with_its_user_and_outcome(settings, tool):
    tool("keys", "create", "--company", "0128", "--label", "[b]shop\x1b[2J")
    tool("keys", "revoke", "bk_unknown_key_of_somebody", code=2)
    refused, made = stored(settings)
    assert (made["action"], made["outcome"], made["company"]) == ("keys create", "ok", "0128")
    assert made["arguments"] == ["--company", "0128", "--label", "[b]shop\x1b[2J"]
    assert (refused["action"], refused["outcome"], refused["code"]) == ("keys revoke", "failed", "usage")
    assert refused["arguments"] == ["bk_unkno…"]
    assert waiting(settings) == []
    shown = tool("audit", "--what", "create").out
    assert "keys create" in shown
    assert "[b]shop" in shown
    assert "\x1b" not in shown
    assert [each["code"] for each in tool("audit", "--outcome", "failed", "--json").json] == ["usage"]


def test_commands_that_read_leave_no_record(settings, tool):
    tool("keys", "list")
    tool("quotas", "list")
    assert stored(settings) == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["scale"], 0), (["startup", "--print"], 0), (["migrate", "--status"], 0), (["migrate", "--dry-run"], 0),
        (["clean-up", "--dry-run"], 0), (["render", "--nginx"], 0), (["log-level"], 7), (["log-level", "api"], 7),
        (["bots", "limit", "0128", "1"], 2), (["queue", "cancel", "--bot", "0128/0", "--dry-run"], 2),
    ],
)  # fmt: skip
def test_a_call_that_only_shows_something_leaves_no_record(settings, tool, words, code):
    tool(*words, code=code)
    assert stored(settings) == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["scale", "api=many"], 2), (["startup", "--remove"], 0), (["migrate"], 0), (["log-level", "all", "debug"], 7),
        (["bots", "limit", "0128", "1", "--none"], 2), (["clean-up"], 0),
    ],
)  # fmt: skip
def test_a_call_of_the_same_commands_that_changes_something_is_recorded(settings, tool, words, code):
    tool(*words, code=code)
    assert {each["action"].split()[0] for each in stored(settings)} == {words[0]}


@pytest.mark.parametrize("width", [80, 200])
def test_the_list_fits_the_terminal(settings, tool, width):
    trail.add(settings.home, replace(RECORD, arguments=["--label", "x" * 200], message="y" * 300, code="conflict"))
    lines = tool("audit", width=width).out.splitlines()
    assert max(map(len, lines)) <= width


def test_what_was_done_while_the_database_was_away_is_shown_and_delivered_in_order(environment, database, tool):
    settings = environment(DATABASE_URL=NOWHERE)
    settings.home.mkdir()
    for _ in range(3):
        tool("keys", "create", "--company", "0128", code=4)
    assert len(waiting(settings)) == 3
    said = tool("audit", "--json")
    assert [each["code"] for each in said.json] == ["unavailable"] * 3
    assert "only records that wait for the database are shown" in said.text
    settings = environment(DATABASE_URL=database)
    AuditDelivery(settings).deliver_once()
    assert waiting(settings) == []
    assert [each["id"] for each in said.json] == [each["id"] for each in stored(settings)]


def test_a_record_is_stored_once_however_often_it_is_delivered(settings):
    for _ in range(2):  # the first delivery was cut off before the file was removed
        for at in (3, 1, 2):
            trail.add(settings.home, replace(RECORD, id=f"00000000-0000-4000-8000-00000000000{at}", at=float(at)))
        assert delivery.deliver(settings) == 3
    assert [each["id"][-1] for each in stored(settings)] == ["3", "2", "1"]


def test_the_record_of_a_killed_process_is_delivered_and_that_of_a_running_one_waits(settings):
    begun = replace(RECORD, outcome=Outcome.UNFINISHED)
    trail.add(settings.home, replace(begun, started=begun.started - 100))
    running = AuditRecord("cli", "bob", "", "start", outcome=Outcome.UNFINISHED)
    trail.add(settings.home, running)
    delivery.deliver(settings)
    (killed,) = stored(settings)
    assert (killed["outcome"], killed["code"]) == ("interrupted", "killed")
    assert waiting(settings) == [running.id]
    assert [each["outcome"] for each in reading.read(settings, ALL).records] == ["unfinished", "interrupted"]


def test_a_record_that_postgresql_refuses_does_not_hold_the_others_up(settings):
    for number, outcome in enumerate(("ok", "ok", "ok")):
        trail.add(settings.home, replace(RECORD, id=str(number) * 8 + RECORD.id[8:], outcome=outcome))
    trail.add(settings.home, replace(RECORD, id="no uuid", at=0.0))
    delivery.deliver(settings)
    assert len(stored(settings)) == 3
    assert waiting(settings) == []


def test_records_wait_for_the_migration(environment, empty_database):
    settings = environment(DATABASE_URL=empty_database)
    settings.home.mkdir()
    trail.add(settings.home, RECORD)
    with pytest.raises(MigrationsPending):
        delivery.deliver(settings)
    assert waiting(settings) == [RECORD.id]


def test_records_wait_for_the_database(environment):
    settings = environment(DATABASE_URL=NOWHERE)
    settings.home.mkdir()
    trail.add(settings.home, RECORD)
    with pytest.raises(DatabaseUnavailable):
        delivery.deliver(settings)
    AuditDelivery(settings).deliver_once()  # never raises
    assert waiting(settings) == [RECORD.id]


def test_a_command_with_a_full_disk_is_stored_directly(settings, tool):
    (settings.home / trail.FOLDER).write_text("in the way")
    tool("keys", "create", "--company", "0128")
    assert [each["action"] for each in stored(settings)] == ["keys create"]


def test_the_table_and_the_spool_are_filtered_alike(settings):
    records = [
        replace(RECORD, id=f"0000000{number}{RECORD.id[8:]}", actor=actor, company=company, at=float(number))
        for number, (actor, company) in enumerate([("alice", "0128"), ("a_ice", None), ("bob", "100%")], start=1)
    ]
    filters = [
        *(AuditFilter(who=each) for each in ("alice", "ALICE", "_", "cli", "pts")),
        *(AuditFilter(what=each) for each in ("revoke", "%", "0128", "3")),
        *(AuditFilter(since=2.0), AuditFilter(outcome="failed"), AuditFilter(limit=1)),
    ]
    for record in records:
        trail.add(settings.home, record)
    before = [[each["id"] for each in reading.read(settings, wanted).records] for wanted in filters]
    delivery.deliver(settings)
    assert [[each["id"] for each in stored(settings, wanted)] for wanted in filters] == before
    assert [len(each) for each in before] == [1, 1, 1, 3, 3, 3, 1, 1, 3, 2, 0, 1]


def test_the_table_has_what_the_spool_shows(settings):
    trail.add(settings.home, RECORD)
    (before,) = reading.read(settings, ALL).records
    delivery.deliver(settings)
    (after,) = reading.read(settings, ALL).records
    assert before | {"stored": True} == after
    with postgres.connected(settings.database_dsn) as connection:
        assert store.find(connection, AuditFilter(who="nobody")) == []
