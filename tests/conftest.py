"""Servers that tests speak to: started here on sockets of their own, and ended by pid."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from bisnesctl.database import migrations
from bisnesctl.terminal import output
from tests.support.event_schema import check_events
from tests.support.processes.servers import Postgres, Redis, settings_in

TEMPLATE = "bisnes_migrated"
#: Slow examples are no failures: the machine may be busy. A function's fixtures serve all of its examples.
settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("tests")
#: The files that take longest. They begin first, so that no process is left alone with one at the end.
LONG_FILES = (
    "acceptance/test_web_hangs.py",
    "acceptance/test_alerts.py",
    "acceptance/test_rollback.py",
    "acceptance/test_web_troubles.py",
    "acceptance/test_documents.py",
    "acceptance/test_chaos.py",
    "acceptance/test_rollout.py",
    "integration/bisnesctl/test_reload.py",
    "integration/bisnesctl/test_lifecycle.py",
    "acceptance/test_former_habits.py",
    "acceptance/test_why.py",
    "integration/wwebjs/test_session.py",
)
_names = (f"test_{number}" for number in itertools.count(1))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the long files first; the rest stays in its order. Fails if one of them is gone."""
    folder = Path(__file__).parent
    places = {(folder / name).resolve(strict=True): place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(autouse=True)
def consoles() -> None:
    """Each test gets consoles of its own, which have the width of its terminal."""
    output.out.cache_clear()
    output.err.cache_clear()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL with a migrated template database; tests that stop it must start it again."""
    server = Postgres(settings_in(tmp_path_factory.mktemp("pg"), REDIS_HOST="unused"))
    server.start()
    with server.tablespace() as place:  # copies of the template lie beside it
        server.run(f"CREATE DATABASE {TEMPLATE} TABLESPACE {place}")
        migrations.apply(server.dsn(TEMPLATE))
        yield server
        server.remove()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis; tests that stop it must start it again."""
    server = Redis(settings_in(tmp_path_factory.mktemp("redis"), DATABASE_URL="postgresql://unused"))
    server.start()
    yield server
    server.remove()


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The URL of a fresh, migrated database. The events that a test causes in it must be as their models say."""
    for dsn in _database(postgres, TEMPLATE):
        yield dsn
        check_events(dsn)


@pytest.fixture(scope="module")
def shared_database(postgres: Postgres) -> Iterator[str]:
    """The URL of a migrated database for all tests of a file that leave nothing in it that others meet."""
    for dsn in _database(postgres, TEMPLATE):
        yield dsn
        check_events(dsn)


@pytest.fixture
def empty_database(postgres: Postgres) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    yield from _database(postgres, "template0")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of the machine may enter. pytest's own would be closed by the next session of pytest."""
    with tempfile.TemporaryDirectory(prefix="bisnes-open-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def _database(postgres: Postgres, template: str) -> Iterator[str]:
    name = next(_names)
    postgres.run(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield postgres.dsn(name)
    finally:
        postgres.run(f"DROP DATABASE {name} WITH (FORCE)")
