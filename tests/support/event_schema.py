"""Validates the events that a test has caused against the models of their payloads."""

import contextlib

import psycopg2

from services.events.payloads import PAYLOADS


def check_events(dsn: str) -> None:
    """Raise ValidationError if an event in the database is not as its model says.

    Events that tests make up are marked by `number`, a field of no payload.
    """
    with contextlib.closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT name, payload FROM event WHERE NOT payload ? 'number' ORDER BY company_id, seq")
        for name, payload in cursor.fetchall():
            PAYLOADS[name].model_validate(payload)
