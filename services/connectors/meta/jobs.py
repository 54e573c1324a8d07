"""The background jobs of Meta's bots."""

from collections.abc import Callable

from bisnesctl.settings import Settings
from services.connectors.meta.downloads import Downloads
from services.connectors.meta.number_checks import NumberChecks
from services.database.connection import Database
from services.media.store import media_store
from services.message import Bot
from services.runtime.background_jobs import BackgroundJobs


def of_meta(settings: Settings, database: Database, bot_of: Callable[[int], Bot | None]) -> BackgroundJobs:
    """The jobs beside sending: download received files, and check the phone numbers."""
    return BackgroundJobs(
        database,
        downloads=Downloads(settings, database, bot_of, media_store(settings)),
        checks=NumberChecks(settings, bot_of),
    )
