"""Why PostgreSQL did not answer a page, and the command that leads further."""

from dataclasses import dataclass

import psycopg2

from bisnesctl.database import postgres
from bisnesctl.errors import MigrationsPending
from bisnesctl.settings import Settings


@dataclass(frozen=True)
class Unavailability:
    """The reason that a page says instead of its content."""

    #: The key of the sentence among the texts in `error`.
    kind: str
    reason: str
    #: The command to type.
    command: str


def explain(error: Exception, settings: Settings, of_server: str) -> Unavailability:
    """The reason of an error of the database. `of_server`: what is known to be wrong with its process, if anything."""
    command = "bisnesctl why postgres" if settings.embedded_postgres else "bisnesctl doctor"
    try:
        with postgres.translated(""):
            raise error
    except MigrationsPending:
        return Unavailability("outdated_database", _first_line(error), "bisnesctl migrate")
    except Exception:
        refused = isinstance(error, psycopg2.Error) and error.pgcode is not None
        return Unavailability("refused" if refused else "database", of_server or _first_line(error), command)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
