"""The background jobs of Meta's bots."""

from bisnesctl.settings import Settings
from services.connectors.meta.downloads import Downloads
from services.connectors.meta.number_checks import NumberChecks
from services.database.connection import Database
from services.media.store import counted_store
from services.outbox.credential_holds import CredentialHolds
from services.runtime.account_cache import AccountCache
from services.runtime.background_jobs import BackgroundJobs
from services.runtime.quotas import Quotas


def of_meta(settings: Settings, database: Database, accounts: AccountCache) -> BackgroundJobs:
    """The jobs beside sending: download received files, and check the phone numbers."""
    store = counted_store(settings, database, Quotas(settings, database, accounts))
    jobs = BackgroundJobs(
        database,
        downloads=Downloads(settings, database, accounts.sending_bot, store),
        checks=NumberChecks(settings, accounts.sending_bot),
        credential_holds=CredentialHolds(settings.decryption_keys),
    )
    accounts.on_change(jobs.wake)
    return jobs
