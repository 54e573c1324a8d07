"""The page of the rollout: what it says, and who may change it."""

from contextlib import closing

import psycopg2
import pytest

from bisnesctl.bots.ownership import Side
from bisnesctl.database import postgres
from bisnesctl.people.roles import Role
from bisnesctl.rollout import state
from bisnesctl.rollout.plan import Step
from bisnesctl.rollout.state import Phase
from services.dashboard.actions import ACTIONS, words_of
from tests.support.measurement import BOT

BUTTONS = {"advance", "advance-anyway", "hold", "continue", "abort"}


@pytest.fixture
def connection(settings):
    with closing(psycopg2.connect(settings.database_dsn)) as made:
        made.autocommit = True
        yield made


@pytest.fixture
def rollout(connection):
    """A rollout at its first step, which all its bots have reached."""
    ((bot,),) = postgres.query(connection, f"{BOT} RETURNING id")
    steps = [Step(100.0, 600.0)]
    made = state.create(connection, None, Side.MULTIPROCESS, [bot], steps, True, "aisha")
    postgres.query(connection, "UPDATE rollout SET step_at = now()")

    def change(**values):
        for name, value in values.items():
            postgres.query(connection, f"UPDATE rollout SET {name} = %s", (value,))
        return made

    return change


def buttons(visitor):
    text = visitor.text("/ui/rollout")
    return {name for name in BUTTONS if f'href="/ui/do/{name}/rollout"' in text}


def test_without_a_rollout_there_is_nothing_to_do(signed_in):
    visitor = signed_in(Role.OPERATOR)
    assert "no rollout was begun" in visitor.text("/ui/rollout")
    assert buttons(visitor) == set()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"ruling": "pass"}, {"advance", "hold", "abort"}),
        ({"ruling": "hold"}, {"advance-anyway", "hold", "abort"}),
        ({"ruling": "pass", "paused": True}, {"advance", "continue", "abort"}),
        ({"phase": Phase.BACK.value}, set()),
        ({"phase": Phase.DONE.value, "ended_at": "2026-01-01"}, {"abort"}),
        ({"phase": Phase.UNDONE.value, "ended_at": "2026-01-01"}, set()),
    ],
)
def test_an_operator_may_do_what_the_rollout_allows(signed_in, rollout, values, expected):
    rollout(**values)
    assert buttons(signed_in(Role.OPERATOR)) == expected


def test_a_viewer_sees_the_verdict_and_both_sides_and_no_button(signed_in, rollout):
    rollout(ruling="fail", reasons='["3 of 4 messages <failed>"]')
    visitor = signed_in(Role.VIEWER)
    page = visitor.get("/ui/rollout").text
    assert "3 of 4 messages &lt;failed&gt;" in page
    assert '<span class="badge fail">fail</span>' in page
    for word in ("legacy", "multiprocess", "p99, seconds", "Probes that failed"):
        assert word in page
    assert buttons(visitor) == set()
    for name in BUTTONS:
        assert visitor.get(f"/ui/do/{name}/rollout").status_code == 403
        assert visitor.post(f"/ui/do/{name}/rollout").status_code == 403


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("advance", ["rollout", "advance"]), ("advance-anyway", ["rollout", "advance", "--force"]),
        ("hold", ["rollout", "pause"]), ("continue", ["rollout", "resume"]), ("abort", ["rollout", "abort"]),
    ],
)  # fmt: skip
def test_a_change_says_what_it_costs_and_is_a_command_of_the_tool(signed_in, name, words):
    assert words_of(ACTIONS[name], "rollout", {}) == words
    assert words_of(ACTIONS[name], "--force", {}) is None
    text = signed_in(Role.OPERATOR).text(f"/ui/do/{name}/rollout")
    assert f"bisnesctl {' '.join(words)}" in text
    assert "Meanwhile:" in text


def test_the_figures_are_unknown_without_postgresql(signed_in, rollout, settings, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://bisnes@127.0.0.1:1/bisnes")
    answer = signed_in(Role.VIEWER).get("/ui/rollout")
    assert answer.status_code == 503
    assert "PostgreSQL" in answer.text
