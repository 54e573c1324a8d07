"""The audit trail: secrets are masked, and records survive until they are delivered."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.audit import masking, trail
from bisnesctl.audit.reading import matches
from bisnesctl.audit.record import MAX_ARGUMENTS_BYTES, AuditRecord, Outcome
from bisnesctl.audit.store import AuditFilter

RECORD = AuditRecord("cli", "alice", "pts/1", "keys revoke", ["3"])
words = st.text(max_size=30)


def run(folder, *arguments):
    """Run a command of two words in a process of its own, so that it may be killed."""
    code = (
        "import os, signal, sys, typer\n"
        "from bisnesctl.audit.commands import changes\n"
        "from bisnesctl.errors import Conflict\n"
        "app = typer.Typer()\n"
        "@app.command()\n@changes\n"
        "def act(how: str, api_token: str = '', label: str = ''):\n"
        "    if how == 'refuse': raise Conflict('no: bk_1234567890abcdef')\n"
        "    if how == 'exit': raise typer.Exit(5)\n"
        "    if how == 'die': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    if how == 'interrupt': raise KeyboardInterrupt\n"
        "    if how == 'break': 1 / 0\n"
        "@app.command()\n@changes\n"
        "def other(): pass\n"
        "app(sys.argv[1:], prog_name='bisnesctl', standalone_mode=False)\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "BISNES_ENV": str(folder / ".env"),
        "DATABASE_URL": "postgresql://127.0.0.1:1/none",
        "SSH_CONNECTION": "203.0.113.7 50000 10.0.0.1 22",
    }
    subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, check=False)
    return [record for _, record in trail.waiting(folder / "var")]


@pytest.fixture
def home(tmp_path):
    (tmp_path / "var").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("how", "outcome", "code"),
    [
        ("work", "ok", ""),
        ("refuse", "failed", "conflict"),
        ("exit", "failed", "unhealthy"),
        ("break", "failed", "failed"),
        ("interrupt", "interrupted", "interrupted"),
    ],
)
def test_a_command_is_recorded_however_it_ends(home, how, outcome, code):
    (found,) = run(home, "act", how, "--api-token", "s3cret", "--label", "web shop")
    assert (found.outcome, found.code, found.action) == (outcome, code, "act")
    assert found.arguments == [how, "--api-token", "***", "--label", "web shop"]
    assert found.origin.endswith("ssh 203.0.113.7")
    assert "1234567890" not in found.message


def test_a_command_that_was_killed_is_recorded_and_not_under_way(home):
    (found,) = run(home, "act", "die")
    assert (found.outcome, found.is_under_way) == ("unfinished", False)


def test_records_are_readable_by_their_owner_alone(home):
    run(home, "other")
    (file,) = (home / "var" / trail.FOLDER).iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_command_outside_of_a_deployment_leaves_nothing(tmp_path):
    run(tmp_path, "other")
    assert list(tmp_path.iterdir()) == []


def test_a_command_whose_record_cannot_be_written_works(home):
    (home / "var" / trail.FOLDER).write_text("in the way")
    assert run(home, "act", "work") == []


def test_the_spool_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(trail, "MAX_RECORDS", 2)
    stored = [trail.add(tmp_path, replace(RECORD, at=at)) for at in (3.0, 1.0, 2.0)]
    assert [each is not None for each in stored] == [True, True, False]
    assert [record.at for _, record in trail.waiting(tmp_path)] == [1.0, 3.0]


def test_damaged_files_of_the_spool_are_skipped(tmp_path):
    trail.add(tmp_path, RECORD)
    for name, text in {"0.json": "{", "1.json": "[]", "2.json": "{}"}.items():
        (tmp_path / trail.FOLDER / name).write_text(text)
    assert [record.id for _, record in trail.waiting(tmp_path)] == [RECORD.id]


def test_this_process_is_under_way_until_the_outcome_is_known():
    begun = replace(RECORD, outcome=Outcome.UNFINISHED)
    assert begun.is_under_way
    assert not begun.ended(Outcome.OK).is_under_way
    assert not replace(begun, started=begun.started - 100).is_under_way  # another process with the same pid


@given(st.recursive(words | st.integers() | st.none() | st.floats(), lambda each: st.lists(each, max_size=5)), words)
def test_any_record_can_be_read_back_and_stays_small(arguments, actor):
    content = replace(RECORD, arguments=arguments, actor=actor * 50).content()
    assert len(content) < 6 * MAX_ARGUMENTS_BYTES
    assert b"\\u0000" not in content
    json.loads(content, parse_constant=pytest.fail)
    assert AuditRecord.read(content).id == RECORD.id


@pytest.mark.parametrize(
    "field",
    ["token", "accessToken", "pin", "code", "secret", "apiKey", "api_key", "password", "encryption_key", "key", "qr"],
)
def test_fields_with_secrets_are_masked(field):
    assert masking.masked({"a": [{field: "s3cret"}], field: {"x": 1}}) == {"a": [{field: "***"}], field: "***"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("bk_abcdefghijklmnop", "bk_abcde…"),
        ("https://user:pass@host/path?sig=abc&x=1#y", "https://***@host/path?sig=***&x=***#y"),
        ("EAAGm0PX4ZCpsBAKZCZDabcdef is wrong", "*** is wrong"),
        ("company 0128", "company 0128"),
    ],
)
def test_values_that_look_like_secrets_are_masked(text, shown):
    assert masking.masked([text]) == [shown]


@given(st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=12))
def test_no_secret_of_a_url_stays(secret):
    assert secret not in masking.text(f"see https://a:{secret}@b/?{'t'}={secret} and bk_{secret}")


def test_what_is_wanted():
    for wanted in (AuditFilter(who="ALI"), AuditFilter(who="cli"), AuditFilter(what="revoke"), AuditFilter(since=0)):
        assert matches(RECORD, wanted)
    for other in (AuditFilter(who="bob"), AuditFilter(what="start"), AuditFilter(outcome="failed")):
        assert not matches(RECORD, other)
