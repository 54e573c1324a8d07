"""A connection that is kept: it is the same at each use, and another one after it broke."""

import psycopg2
import pytest

from bisnesctl.database import postgres
from bisnesctl.database.kept_connection import KeptConnection


def server_process(kept: KeptConnection, url: str) -> int:
    with kept.connected(url, 5) as connection:
        return int(postgres.query(connection, "SELECT pg_backend_pid()")[0][0])


def test_it_is_the_same_at_each_use_until_it_breaks(database: str) -> None:
    kept = KeptConnection()
    first = server_process(kept, database)
    assert server_process(kept, database) == first
    with postgres.connected(database) as other:
        postgres.query(other, "SELECT pg_terminate_backend(%s)", (first,))
    assert server_process(kept, database) != first
    kept.close()


def test_it_breaks_in_use_and_is_opened_again(database: str) -> None:
    kept = KeptConnection()
    with pytest.raises(psycopg2.OperationalError), kept.connected(database, 5) as connection:
        postgres.query(connection, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert server_process(kept, database) > 0
    kept.close()


def test_a_statement_ends_within_its_time(database: str) -> None:
    kept = KeptConnection()
    with pytest.raises(psycopg2.errors.QueryCanceled), kept.connected(database, 1) as connection:
        postgres.query(connection, "SELECT pg_sleep(600)")
    kept.close()


def test_another_database_gets_another_connection(database: str, empty_database: str) -> None:
    kept = KeptConnection()
    first = server_process(kept, database)
    assert server_process(kept, empty_database) != first
    kept.close()
