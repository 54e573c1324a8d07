"""What the API is made of: wired in one place, connected when the server starts."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bisnesctl.settings import Settings
from services.connectors.base import Connector
from services.connectors.meta.translation.connector import MetaConnector
from services.connectors.wwebjs.translation.connector import WwebjsConnector
from services.database.connection import Database
from services.media.store import MediaStore, media_store
from services.outbox.accept import Acceptor
from services.runtime.account_cache import AccountCache
from services.runtime.heartbeat import Counters
from services.runtime.process import Process
from services.wakeups import Notifier, WakeupSender, WakingBroker


@dataclass(frozen=True)
class Context:
    """The parts that requests are served with."""

    settings: Settings
    database: Database
    directory: AccountCache
    intake: Acceptor
    hints: Notifier
    connectors: dict[str, Connector]  # by process name
    media: MediaStore
    counters: Counters = field(default_factory=Counters)
    _closing: list[Callable[[], object]] = field(default_factory=list)

    def on_close(self, action: Callable[[], object]) -> None:
        """Do this as well when the server stops; the last one first."""
        self._closing.insert(0, action)

    def close(self) -> None:
        """Commit what waits and let go of the database."""
        for action in self._closing:
            action()
        self.intake.close()
        self.directory.stop()
        self.database.close()


def connect(settings: Settings, hints: Notifier) -> Context:
    """A context on the database of the settings; it connects with the first request."""
    process = Process(settings, "api", settings.database_pool_api_max)
    connectors: dict[str, Connector] = {"meta": MetaConnector(settings), "wwebjs": WwebjsConnector(settings)}
    intake = Acceptor(process.database, hints)
    return Context(settings, process.database, process.accounts, intake, hints, connectors, media_store(settings))


def wire() -> Context:
    """The context of an API process."""
    settings = Process.from_environment("api").settings
    return connect(settings, WakeupSender(WakingBroker(settings.redis_dsn)))
