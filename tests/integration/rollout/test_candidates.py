"""The bots that a rollout would move, and why there are none."""

import pytest

from bisnesctl.bots.ownership import Side
from bisnesctl.database import postgres
from bisnesctl.rollout import candidates
from tests.support.outbox import add_bot, execute


@pytest.fixture
def connection(environment, database):
    with postgres.connected(environment(DATABASE_URL=database).database_dsn) as opened:
        yield opened


def test_nothing_to_move_has_a_reason(connection):
    assert "there are no bots to move: `bisnesctl bots add`" in candidates.why_none(connection, Side.LEGACY)
    add_bot(connection)
    execute(connection, "UPDATE bot_pace SET owner = 'legacy'")
    assert candidates.find(connection, Side.LEGACY)[0] == []
    assert candidates.why_none(connection, Side.LEGACY) == "legacy serves all bots already"
    assert candidates.why_none(connection, Side.LEGACY, "meta") == "legacy serves all bots of meta already"
    assert "there are no bots of wwebjs to move" in candidates.why_none(connection, Side.LEGACY, "wwebjs")
