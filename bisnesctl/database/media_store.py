"""The one store that has the files of a database's messages: a machine with another one is refused at its start.

A folder has a marker, a file with an id. S3 storage is known by its address. The database has the id of the store that
was used first. A machine whose store has another id would fail messages permanently, since it lacks their files.
"""

import secrets
import socket
from contextlib import suppress
from pathlib import Path

import psycopg2.extensions

from bisnesctl.errors import ConfigError
from bisnesctl.host import disk
from bisnesctl.settings import Settings

#: The name of the marker in the folder of media.
MARKER = "store-id"

_KNOWN = "SELECT id, place FROM media_store"
_NOTE = "INSERT INTO media_store (id, place) VALUES (%(id)s, %(place)s) ON CONFLICT DO NOTHING"
_ADOPT = """
INSERT INTO media_store (id, place) VALUES (%(id)s, %(place)s)
ON CONFLICT (one) DO UPDATE SET id = excluded.id, place = excluded.place, since = now()"""


def check(connection: psycopg2.extensions.connection, settings: Settings, adopt: bool = False) -> None:
    """Check that MEDIA_STORE is the store of this database; the first one that is checked becomes it.

    `adopt`: makes this store the database's. Raises `ConfigError` if it is another one.
    """
    with connection.cursor() as cursor:
        cursor.execute(_KNOWN)
        known, here = cursor.fetchone(), _identity(settings)
        if known is not None and known[0] == here:
            return
        if known is None or adopt:
            values = {"id": here or _mark(settings), "place": _place(settings)}
            cursor.execute(_ADOPT if adopt else _NOTE, values)
            cursor.execute(_KNOWN)
            known = cursor.fetchone()
            if known is not None and known[0] == values["id"]:
                return
    place = known[1] if known else "?"
    raise ConfigError(
        f"MEDIA_STORE ({_place(settings)}) is not the store of this database, which is {place}: files that other "
        f"machines accept would be missing here. Set MEDIA_STORE in {settings.env_file} to the same S3 storage on all "
        "machines, or mount the same folder there. If the store was moved or replaced on purpose, type "
        "`bisnesctl start --multiprocess --adopt-media-store`"
    )


def is_marked(folder: Path) -> bool:
    """Whether the folder is a store: one that is not mounted is not."""
    return (folder / MARKER).exists()


def _identity(settings: Settings) -> str | None:
    """The id of the store; None for a folder that has none yet, or is not mounted."""
    folder = settings.media_dir
    if folder is None:
        return f"{settings.s3_endpoint_url or ''} {settings.media_store}".strip()
    try:
        return (folder / MARKER).read_text().strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(
            f"the marker of MEDIA_STORE cannot be read: {disk.explain(error, folder / MARKER)}"
        ) from error


def _mark(settings: Settings) -> str:
    """Mark a folder as a store. Raises `CannotWrite`."""
    folder = settings.media_dir
    assert folder is not None  # noqa: S101
    found = secrets.token_hex(16)
    with disk.writing(folder / MARKER):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError), (folder / MARKER).open("x") as file:
            file.write(f"{found}\n")
            return found
        return (folder / MARKER).read_text().strip()


def _place(settings: Settings) -> str:
    folder = settings.media_dir
    return settings.media_store if folder is None else f"{socket.gethostname()}:{folder}"
