"""The checks before a switch to another release, which touch nothing."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from bisnesctl.bots.ownership import Side
from bisnesctl.database import postgres
from bisnesctl.errors import Conflict
from bisnesctl.processes.deployment import Deployment
from bisnesctl.releases.checks import refuse_rollout
from bisnesctl.rollout import state
from bisnesctl.rollout.plan import Step
from tests.support.measurement import BOT
from tests.support.processes.servers import settings_in


def deployment(folder: Path, url: str, running: bool = True) -> Deployment:
    """A deployment with this database, whose supervisord runs or not."""
    return Deployment(settings_in(folder, DATABASE_URL=url), Mock(**{"running.return_value": running}))


def test_a_rollout_that_is_under_way_prevents_a_switch(database: str, tmp_path: Path) -> None:
    refuse_rollout(deployment(tmp_path, database))
    with postgres.connected(database) as connection:
        ((bot,),) = postgres.query(connection, f"{BOT} RETURNING id")
        made = state.create(connection, None, Side.MULTIPROCESS, [bot], [Step(100.0, 600.0)], True, "aisha")
        with pytest.raises(Conflict, match=f"rollout {made.id} is under way.*rollout abort"):
            refuse_rollout(deployment(tmp_path, database))
        refuse_rollout(deployment(tmp_path, database, running=False))
        postgres.query(connection, "UPDATE rollout SET ended_at = now(), phase = %s", ("undone",))
    refuse_rollout(deployment(tmp_path, database))


def test_an_unavailable_or_older_database_is_left_to_the_next_checks(empty_database: str, tmp_path: Path) -> None:
    refuse_rollout(deployment(tmp_path, empty_database))
    refuse_rollout(deployment(tmp_path, "postgresql://127.0.0.1:1/none"))
