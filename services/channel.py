"""The sending half of a channel, wired: everything that one process needs to deliver that channel's messages."""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from bisnesctl.bots.ownership import Side
from bisnesctl.database import deployments, media_store
from bisnesctl.errors import CannotWrite, ConfigError
from bisnesctl.queue import pauses
from bisnesctl.settings import Settings
from services.connector import Connector
from services.database.clock import DatabaseClock
from services.database.connection import Connection, Database, DatabaseError, DatabaseUnavailable, Statement, run
from services.http_exchange import InFlight
from services.inbox.webhook_inbox import IS_WAITING, Inbox
from services.message import Update
from services.outbox import holds, resolutions
from services.outbox.delivery import Delivery
from services.outbox.journal import Journal, path_of
from services.outbox.keyed_claims import KeyedOutbox, SpareIds
from services.outbox.on_call import OnCall
from services.outbox.outcome_policy import USUAL_PAUSES, Attempts, Pauses
from services.outbox.recovery import JournalRecovery, KeyedRecovery, Recovery
from services.outbox.store import HAS_DUE, Outbox
from services.runtime import instance_rows
from services.runtime.account_cache import AccountCache
from services.runtime.heartbeat import worker_name
from services.runtime.interval import Interval

#: Seconds between two sweeps: for due retries, lost wake-ups, expired leases, stored webhooks. While there is nothing
#: to do, one statement looks whether there is.
SWEEP_INTERVAL_SECONDS = 1.0
#: Seconds between two whole sweeps while there is nothing to do.
IDLE_SWEEP_INTERVAL_SECONDS = 5.0
#: Seconds between two sweeps while chats are due that their number's rate delays.
PACED_SWEEP_INTERVAL_SECONDS = 0.1
#: Seconds between two looks for workers on other machines.
MACHINES_INTERVAL_SECONDS = 1.0
#: Seconds between two looks for messages that have waited for their provider for too long.
OLD_MESSAGES_INTERVAL_SECONDS = 30.0
#: Seconds between two looks whether a stopping channel has finished.
STOP_POLL_SECONDS = 0.02
#: The share of a lease after which it is renewed.
RENEWAL_SHARE = 1 / 3

_HAS_WORK = Statement(
    "has_work",
    f"""
SELECT ({HAS_DUE}) OR ({IS_WAITING}) OR ({instance_rows.ELSEWHERE})
    OR EXISTS (SELECT FROM unknown_message WHERE resolution IS NOT NULL)""",
    process="text", bot="int", side="text", host="text", max_age="float8",
)  # fmt: skip

log = structlog.get_logger()


@dataclass(frozen=True)
class Tuning:
    """The speed and the patience of a channel."""

    window: InFlight
    rate: float  # messages a second for each bot that sets none of its own
    attempts: Attempts
    bot_id: int | None = None  # the one bot that is served; its messages have keys chosen before the send
    pauses: Pauses = USUAL_PAUSES  # between attempts while a provider is not available
    side: Side | None = None  # whose bots are served; None: those of both sides
    spare_ids: SpareIds | None = None  # for the keys of the one bot's messages


def tuned_for_meta(settings: Settings, side: Side | None = None) -> Tuning:
    """For many requests of many numbers at once; `side`: whose, None for all."""
    from services.http_client import RequestsInFlight  # libcurl takes megabytes, and sessions send without it

    return Tuning(
        RequestsInFlight(settings.meta_window, settings.send_timeout_ms),
        settings.meta_max_messages_per_second,
        Attempts(settings.meta_attempts, settings.meta_backoff_ms / 1000),
        side=side,
    )


def tuned_for_session(settings: Settings, bot_id: int, window: InFlight, spare_ids: SpareIds | None = None) -> Tuning:
    """For one bot's messages, through its own browser."""
    attempts = Attempts(settings.wwebjs_attempts, settings.wwebjs_backoff_ms / 1000)
    return Tuning(window, settings.wwebjs_max_messages_per_second, attempts, bot_id, spare_ids=spare_ids)


class Channel:
    """Delivers one channel's messages and applies its webhooks, whether or not wake-ups arrive."""

    def __init__(
        self, settings: Settings, database: Database, accounts: AccountCache, connector: Connector,
        parse: Callable[[bytes], list[Update]], tuning: Tuning, instance: str, run: str,
        before_claim: Callable[[], None] = lambda: None, is_announced_to: bool = False,
    ) -> None:  # fmt: skip
        """`parse` reads a webhook, or an event of the page; see `Inbox`.

        `instance`: this process's name, the same after a restart; `run`: a name of this very start.
        `is_announced_to`: whether accepted messages are announced to it; one worker of each side is on call for them.
        """
        self._settings, self._database = settings, database
        self._instance, self._run = instance, run
        of_worker = connector.process_name, worker_name(instance, run), tuning.rate, settings.lease_seconds
        of_bots = settings.media_base, tuning.bot_id, tuning.side
        ids = tuning.spare_ids
        outbox = Outbox(*of_worker, *of_bots) if ids is None else KeyedOutbox(*of_worker, *of_bots, spare_ids=ids)
        self.outbox = outbox
        self._journal = Journal(path_of(settings.journal_dir, instance), tuning.window.size)
        self._recovery: Recovery = (
            JournalRecovery(outbox, settings.journal_dir)
            if tuning.bot_id is None
            else KeyedRecovery(outbox, tuning.bot_id)
        )
        self.inbox = Inbox(connector.process_name, parse, settings.media_base, tuning.bot_id)
        on_call = None
        if is_announced_to:
            from services.http_client import RequestsInFlight  # only where it is used already

            if isinstance(tuning.window, RequestsInFlight):
                on_call = OnCall(outbox.channel, tuning.side, tuning.window)
        self._listens = on_call is not None
        self.delivery = Delivery(
            connector, outbox, database, accounts.sending_bot, self._journal, tuning.window, tuning.attempts,
            before_claim, tuning.pauses, on_call,
        )  # fmt: skip
        self._stopped, self._ready = threading.Event(), threading.Event()
        self._until_renewal = Interval(settings.lease_seconds * RENEWAL_SHARE)
        self._until_old_messages = Interval(OLD_MESSAGES_INTERVAL_SECONDS)
        self._until_resolutions = Interval(SWEEP_INTERVAL_SECONDS)
        self._until_machines = Interval(MACHINES_INTERVAL_SECONDS)
        self._due = False  # whether the last sweep found chats that could be served
        self._until_whole_sweep = Interval(IDLE_SWEEP_INTERVAL_SECONDS)
        self._clock = DatabaseClock(settings)
        self._leases_valid_until = 0.0  # by time.monotonic(), after the clock was set forward

    @property
    def trouble(self) -> str | None:
        """The reason why nothing can be sent, beyond the holds of single numbers."""
        return self._journal.trouble

    def start(self, cancelled: threading.Event | None = None, waits: Callable[[str], object] = lambda _: None) -> None:
        """Settle what an earlier run left, then deliver; waits for the database and the disk until `cancelled`.

        `waits` is called with the reason."""
        cancelled = cancelled or self._stopped
        while not cancelled.is_set() and (reason := self._prepare()):
            log.warning("channel.not_ready", reason=reason)
            waits(f"it waits before it sends: {reason}")
            cancelled.wait(SWEEP_INTERVAL_SECONDS)
        if self._ready.is_set():
            threading.Thread(target=self._sweep_until_stopped, name="sweep", daemon=True).start()
            if self._listens:
                threading.Thread(target=self.delivery.listen, name="delivery", daemon=True).start()

    def start_in_background(self) -> None:
        """Like `start`, for a process that has more to do than to send."""
        threading.Thread(target=self.start, name="sender", daemon=True).start()

    def wake(self, queue_name: str) -> None:
        """A wake-up from within the process; returns at once."""
        task = self.apply_webhooks if queue_name.endswith("-webhooks") else self.delivery.wake
        if self._ready.is_set():
            threading.Thread(target=task, name=queue_name, daemon=True).start()

    def apply_webhooks(self) -> None:
        """Apply the stored webhooks; without the database, the next sweep does."""
        try:
            with self._database.connection() as connection:
                self.inbox.apply_all(connection)
        except (DatabaseUnavailable, DatabaseError) as error:
            log.warning("webhooks.not_applied", reason=f"the database is unavailable: {str(error).strip()}")

    def stop(self, seconds: float) -> bool:
        """Claim nothing more and finish the messages in hand within `seconds`; returns whether all were finished."""
        self.delivery.stop()
        self._stopped.set()
        deadline = time.monotonic() + seconds
        while (self.delivery.working or self.inbox.is_applying) and time.monotonic() < deadline:
            time.sleep(STOP_POLL_SECONDS)
        return not self.delivery.in_hand

    def _prepare(self) -> str | None:
        """Prepare to send; returns the reason if that is not possible yet."""
        try:
            self._journal.lock()
            with self._database.connection() as connection:
                media_store.check(connection, self._settings)
                if reason := self._conflict(connection):
                    return reason
                self._look_for_machines(connection)
                self._recovery.of_earlier_runs(connection)
            self._journal.begin(self._run)
        except (DatabaseUnavailable, DatabaseError) as error:
            return f"the database is unavailable: {str(error).strip()}"
        except (ConfigError, CannotWrite) as error:
            return str(error)
        except OSError as error:
            return self._journal.trouble or str(error)
        self._ready.set()
        return None

    def _conflict(self, connection: Connection) -> str | None:
        """A bot's lock protects its session; the claims of other workers are known by their names."""
        if self.outbox.bot_id is not None:
            return None
        return deployments.conflict(connection, self._settings, self.outbox.channel, self._instance)

    def _sweep_until_stopped(self) -> None:
        while not self._stopped.wait(PACED_SWEEP_INTERVAL_SECONDS if self._due else SWEEP_INTERVAL_SECONDS):
            try:
                with self._database.connection() as connection:
                    if self._until_whole_sweep.is_over() or self._has_work(connection):
                        self._until_whole_sweep.restart()
                        self._sweep(connection)
            except (DatabaseUnavailable, DatabaseError) as error:
                log.warning("sweep.failed", reason=f"the database is unavailable: {str(error).strip()}")
            except OSError as error:
                log.warning("sweep.failed", reason=str(error))

    def _has_work(self, connection: Connection) -> bool:
        """Whether a sweep may have something to do. Other machines count, since they change what must be stored."""
        if self.delivery.in_hand or self.inbox.is_applying:
            return True
        values = {
            "process": self.outbox.channel, "bot": self.outbox.bot_id, "side": self.outbox.side,
            "host": socket.gethostname(), "max_age": self._settings.max_heartbeat_age / 1000,
        }  # fmt: skip
        return run(connection, (_HAS_WORK, values)) == [(True,)]

    def _sweep(self, connection: Connection) -> None:
        if self._until_machines.is_over():
            self._look_for_machines(connection)
        self._renew_leases(connection)
        self._settle_expired_leases(connection)
        self._fail_old(connection)
        self._apply_decisions(connection)
        if not self.inbox.is_applying:
            self.inbox.apply_all(connection)
        self._due = self.outbox.has_due(connection)
        if self._due:
            threading.Thread(target=self.delivery.wake, name="delivery", daemon=True).start()

    def _look_for_machines(self, connection: Connection) -> None:
        """Workers of this machine alone know from their journals what may have left; others need it in the database."""
        self._until_machines.restart()
        self.delivery.marks_all = self.outbox.bot_id is None and instance_rows.exist_elsewhere(
            connection, self.outbox.channel, self._settings.max_heartbeat_age / 1000
        )

    def _renew_leases(self, connection: Connection) -> None:
        """Files may take longer to upload than a lease lasts, and a provider longer to answer."""
        if self.delivery.in_hand and self._until_renewal.is_over():
            self.outbox.renew(connection)
            self._until_renewal.restart()

    def _settle_expired_leases(self, connection: Connection) -> None:
        """Recover what others hold beyond their lease.

        If the clock was set forward, every lease seems to have expired. Living workers then renew theirs, and none is
        recovered until they have had the time to.
        """
        now = time.monotonic()
        if self._clock.look(connection):
            self.outbox.renew(connection)
            self._until_renewal.restart()
            self._leases_valid_until = now + self._settings.lease_seconds
        if now >= self._leases_valid_until:
            self._recovery.of_expired_leases(connection)

    def _apply_decisions(self, connection: Connection) -> None:
        """Record what operators decided about unknown messages, and report the ends of their pauses."""
        if not self._until_resolutions.is_over():
            return
        self._until_resolutions.restart()
        if recorded := resolutions.record_resolutions(connection, self.outbox):
            log.info("messages.resolved", messages=recorded)
        if expired := holds.end_expired(connection, self.outbox):
            log.info("holds.expired", numbers=expired)
        if ended := pauses.end_expired(connection):
            log.info("bot.pause_ended", bots=sorted(ended))

    def _fail_old(self, connection: Connection) -> None:
        if not self._until_old_messages.is_over():
            return
        self._until_old_messages.restart()
        resolutions.report_lasting(connection, self.outbox)
        if failed := holds.fail_old(connection, self.outbox, self._settings.meta_outage_hours):
            log.error("messages.failed", reason="their provider was unavailable for too long", messages=failed)
