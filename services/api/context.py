"""The parts that serve the API's requests, wired in one place and connected when the server starts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from bisnesctl.settings import Settings
from services.api.quotas import ApiQuotas
from services.database.connection import Database
from services.media.store import CountedStore, counted_store
from services.outbox.accept import Acceptor
from services.runtime.account_cache import AccountCache
from services.runtime.heartbeat import Counters
from services.runtime.process import Process
from services.wakeups import Notifier, WakeupSender


@dataclass(frozen=True)
class Context:
    """The parts that serve requests."""

    settings: Settings
    database: Database
    accounts: AccountCache
    acceptor: Acceptor
    notifier: Notifier
    media: CountedStore
    quotas: ApiQuotas
    counters: Counters = field(default_factory=Counters)
    _closing: list[Callable[[], object]] = field(default_factory=list)

    def on_close(self, action: Callable[[], object]) -> None:
        """Run `action` when the server stops; the action added last runs first."""
        self._closing.insert(0, action)

    def close(self) -> None:
        """Commit the messages that wait and disconnect."""
        for action in self._closing:
            action()
        self.acceptor.close()
        self.quotas.stop()
        self.accounts.stop()
        self.database.close()


def connect(settings: Settings, notifier: Notifier, counters: Counters | None = None) -> Context:
    """A context on the database of the settings; it connects with the first request.

    `counters`: those that the heartbeat of the process reports.
    """
    process = Process(settings, "api", settings.database_pool_api_max)
    acceptor = Acceptor(process.database, notifier)
    counters = counters or Counters()
    counters.pool = process.database.use
    counters.refresh = partial(_count, counters, acceptor)
    quotas = ApiQuotas(settings, process.database, process.accounts)
    media = counted_store(settings, process.database, quotas.quotas)
    return Context(settings, process.database, process.accounts, acceptor, notifier, media, quotas, counters)


def _count(counters: Counters, acceptor: Acceptor) -> None:
    counters.processed = counters.sent = acceptor.accepted


def wire(counters: Counters) -> Context:
    """The context of an API process."""
    settings = Process.from_environment("api").settings
    return connect(settings, WakeupSender(settings.redis_dsn), counters)
