"""Background jobs for Meta's numbers."""

from collections.abc import Callable

from bisnesctl.settings import Settings
from services.connectors.meta.downloads import Downloads
from services.connectors.meta.number_checks import Checks
from services.database.connection import Database
from services.media.store import media_store
from services.message import Bot
from services.runtime.background_jobs import BackgroundJobs


def of_meta(settings: Settings, database: Database, bot_of: Callable[[int], Bot | None]) -> BackgroundJobs:
    """What is to be done for Meta's numbers beside sending: fetch the files that came in, ask how the numbers are."""
    return BackgroundJobs(
        database,
        downloads=Downloads(settings, database, bot_of, media_store(settings)),
        checks=Checks(settings, bot_of),
    )
