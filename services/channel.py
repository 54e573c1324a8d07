"""A channel's sending half, wired: everything that one process needs to deliver that channel's messages."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from bisnesctl.encryption import decrypt
from bisnesctl.settings import Settings
from services.connectors.base import Connector
from services.database.clock import DatabaseClock
from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable
from services.database.retention import Retention
from services.http_client.in_flight import InFlight, RequestsInFlight
from services.inbox.apply import Inbox
from services.message import Bot, Secret
from services.outbox import outages
from services.outbox.delivery import Attempts, Delivery
from services.outbox.outage_policy import USUAL_PAUSES, Pauses
from services.outbox.recovery import JournalRecovery, KeyedRecovery, Recovery, journal_path
from services.outbox.send_journal import Journal
from services.outbox.store import Outbox
from services.runtime.account_cache import AccountCache
from services.runtime.heartbeat import worker_name

#: Seconds between two looks for what no hint told of: due retries, lost hints, expired leases, stored webhooks.
SWEEP = 1.0
#: The same while chats are due that their number's rate holds back.
PACED_SWEEP = 0.1
#: Seconds between two looks for messages that have waited for their provider for too long.
GIVE_UP_SWEEP = 30.0

log = structlog.get_logger()


@dataclass(frozen=True)
class Tuning:
    """How a channel sends."""

    window: InFlight
    rate: float  # messages a second for each bot that sets none of its own
    attempts: Attempts
    bot_id: int | None = None  # the one bot that is served; its messages have keys chosen before the send
    pauses: Pauses = USUAL_PAUSES  # between attempts while a provider is not available


def tuned_for_meta(settings: Settings) -> Tuning:
    """Many requests of many numbers at once."""
    return Tuning(
        RequestsInFlight(settings.meta_window, settings.send_timeout_ms),
        settings.meta_max_messages_per_second,
        Attempts(settings.meta_attempts, settings.meta_backoff_ms / 1000),
    )


def tuned_for_session(settings: Settings, bot_id: int, window: InFlight) -> Tuning:
    """One bot's messages, through its own browser."""
    attempts = Attempts(settings.wwebjs_attempts, settings.wwebjs_backoff_ms / 1000)
    return Tuning(window, settings.wwebjs_max_messages_per_second, attempts, bot_id)


class Channel:
    """Delivers one channel's messages and works off its webhooks, whether or not hints arrive."""

    def __init__(
        self, settings: Settings, database: Database, directory: AccountCache, connector: Connector, tuning: Tuning,
        instance: str, run: str, before_look: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """`instance`: this process's name, the same after a restart; `run`: a name of this very start."""
        self._settings, self._database, self._run = settings, database, run
        outbox = Outbox(
            connector.process_name, worker_name(instance, run),
            tuning.rate, settings.lease_seconds, settings.media_base, tuning.bot_id,
        )  # fmt: skip
        self.outbox = outbox
        self._journal = Journal(journal_path(settings.journal_dir, instance), tuning.window.size)
        self._recovery: Recovery = (
            JournalRecovery(outbox, settings.journal_dir)
            if tuning.bot_id is None
            else KeyedRecovery(outbox, tuning.bot_id)
        )
        self._retention = Retention(settings.events_keep_days)
        self._inbox = Inbox(connector.process_name, connector.parse, settings.media_base, tuning.bot_id)
        self._unlock = _Unlocker(directory, settings.encryption_key.get_secret_value())
        self.delivery = Delivery(
            connector, outbox, database, self._unlock.bot, self._journal, tuning.window, tuning.attempts, before_look,
            tuning.pauses,
        )  # fmt: skip
        self._stopped, self._taken_up = threading.Event(), threading.Event()
        self._inbox_busy = threading.Lock()
        self._renewed = time.monotonic()  # when leases were last renewed
        self._gave_up = time.monotonic()  # when messages that are too old were last looked for
        self._due = False  # whether the last sweep found chats that could be served
        self._clock = DatabaseClock(settings)
        self._leases_hold_until = 0.0  # by time.monotonic()

    @property
    def trouble(self) -> str | None:
        """Why nothing can be sent, beyond what is told of a number."""
        return self._journal.trouble

    def start(self, cancelled: threading.Event | None = None, waits: Callable[[str], object] = lambda _: None) -> None:
        """Settle what an earlier run left, then deliver; waits for the database and the disk as long as it takes, or
        until `cancelled`. `waits` is told why."""
        cancelled = cancelled or self._stopped
        while not cancelled.is_set() and (reason := self._take_up()):
            log.warning("waiting before the first message is sent", reason=reason)
            waits(f"it waits before it sends: {reason}")
            cancelled.wait(SWEEP)
        if self._taken_up.is_set():
            threading.Thread(target=self._sweep_on, name="sweep", daemon=True).start()

    def start_in_background(self) -> None:
        """Like `start`, for a process that has more to do than to send."""
        threading.Thread(target=self.start, name="sender", daemon=True).start()

    def bot(self, bot_id: int) -> Bot | None:
        """A bot with its token decrypted. Raises `VaultError`, `DatabaseUnavailable`."""
        return self._unlock.bot(bot_id)

    def nudge(self, queue_name: str) -> None:
        """A hint from within the process; returns at once."""
        task = self.work_off_webhooks if queue_name.endswith("-webhooks") else self.delivery.wake
        if self._taken_up.is_set():
            threading.Thread(target=task, name=queue_name, daemon=True).start()

    def stop(self, seconds: float) -> bool:
        """Claim nothing more and finish what is in hand within `seconds`; returns whether all was finished."""
        self.delivery.stop()
        self._stopped.set()
        deadline = time.monotonic() + seconds
        while (self.delivery.working or self._inbox_busy.locked()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self.delivery.in_hand

    def work_off_webhooks(self) -> None:
        """Apply the webhooks that are stored."""
        with self._inbox_busy, self._database.connection() as connection:
            self._inbox.work_off(connection)

    def _take_up(self) -> str | None:
        """Make ready to send; returns what is in the way."""
        try:
            self._journal.lock()
            with self._database.connection() as connection:
                self._recovery.of_earlier_runs(connection)
            self._journal.begin(self._run)
        except (DatabaseUnavailable, DatabaseError) as error:
            return f"the database is away: {str(error).strip()}"
        except OSError as error:
            return self._journal.trouble or str(error)
        self._taken_up.set()
        return None

    def _sweep_on(self) -> None:
        while not self._stopped.wait(PACED_SWEEP if self._due else SWEEP):
            try:
                with self._database.connection() as connection:
                    self._sweep(connection)
            except (DatabaseUnavailable, DatabaseError) as error:
                log.warning("the database is away, looking again in a second", reason=str(error).strip())
            except OSError as error:
                log.warning("the disk is in the way, looking again in a second", reason=str(error))

    def _sweep(self, connection: Connection) -> None:
        self._renew_leases(connection)
        self._settle_expired_leases(connection)
        self._give_up_old(connection)
        self._retention.clean_up_if_due(connection)
        if not self._inbox_busy.locked():
            with self._inbox_busy:
                self._inbox.work_off(connection)
        self._due = self.outbox.has_due(connection)
        if self._due:
            threading.Thread(target=self.delivery.wake, name="delivery", daemon=True).start()

    def _renew_leases(self, connection: Connection) -> None:
        """Files may take longer to upload than a lease lasts."""
        now = time.monotonic()
        if self.delivery.preparing and now - self._renewed > self._settings.lease_seconds / 3:
            self.outbox.renew(connection)
            self._renewed = now

    def _settle_expired_leases(self, connection: Connection) -> None:
        """If the clock was set forth, every lease seems to have run out: those who live renew theirs, and none is
        taken over until they have had the time to."""
        now = time.monotonic()
        if self._clock.look(connection):
            self.outbox.renew(connection)
            self._retention.postpone()
            self._renewed, self._leases_hold_until = now, now + self._settings.lease_seconds
        if now >= self._leases_hold_until:
            self._recovery.of_expired_leases(connection)

    def _give_up_old(self, connection: Connection) -> None:
        now = time.monotonic()
        if now - self._gave_up < GIVE_UP_SWEEP:
            return
        self._gave_up = now
        if given_up := outages.give_up_old(connection, self.outbox, self._settings.meta_outage_hours):
            log.error("messages were given up, their provider was not available for too long", messages=given_up)


class _Unlocker:
    """Bots with their tokens decrypted, each token once."""

    def __init__(self, directory: AccountCache, key: str) -> None:
        self._directory, self._key = directory, key
        self._tokens: dict[str, Secret] = {}

    def bot(self, bot_id: int) -> Bot | None:
        """The bot, ready to send. Raises `VaultError` where its token cannot be decrypted."""
        bot = self._directory.bot_by_id(bot_id)
        if bot is None:
            return None
        if bot.process_name == "wwebjs":  # its credential is the browser's profile
            return bot
        locked = bot.access_token.value
        if locked not in self._tokens:
            self._tokens[locked] = Secret(decrypt(self._key, locked))
        return replace(bot, access_token=self._tokens[locked])
