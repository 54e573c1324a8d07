"""The process of one WhatsApp Web bot: connects everything that its session needs, and serves it."""

import os
import threading
from collections.abc import Callable
from typing import TypeVar

import redis
import structlog

from bisnesctl.bots import web_sessions
from bisnesctl.errors import ConfigError
from bisnesctl.host import process_memory
from bisnesctl.naming import session_name
from bisnesctl.settings import Settings
from services.channel import Channel, tuned_for_session
from services.connectors.wwebjs.browser import process_tree
from services.connectors.wwebjs.browser.browser import Browser, BrowserOptions
from services.connectors.wwebjs.browser.profiles import Profile, ProfileInUse
from services.connectors.wwebjs.browser.session_clock import clock
from services.connectors.wwebjs.sending.page_sends import PageSends
from services.connectors.wwebjs.sending.send_guard import DatabaseSendGuard
from services.connectors.wwebjs.session.bot_lock import BotLock
from services.connectors.wwebjs.session.browser_loop import Hooks
from services.connectors.wwebjs.session.catch_up import CatchUp
from services.connectors.wwebjs.session.command_handlers import CommandHandlers
from services.connectors.wwebjs.session.event_recorder import EventRecorder
from services.connectors.wwebjs.session.media_downloads import MediaDownloads
from services.connectors.wwebjs.session.session import ExitStatus, Session, missing_program
from services.connectors.wwebjs.session.status_store import UNAVAILABLE, StatusStore
from services.connectors.wwebjs.session.watchdog import Progress, Watchdog, end_process
from services.connectors.wwebjs.states.state_machine import Limits
from services.connectors.wwebjs.translation import incoming
from services.connectors.wwebjs.translation.connector import WwebjsConnector
from services.database.connection import DatabaseUnavailable
from services.media.store import counted_store
from services.message import Bot
from services.outbox.keyed_claims import SpareIds
from services.runtime import memory
from services.runtime.account_cache import AccountCache
from services.runtime.heartbeat import Counters
from services.runtime.process import Process
from services.runtime.quotas import Quotas
from services.wakeups import SessionWakeup, session_queue

#: Connections to PostgreSQL of one session.
DATABASE_POOL_SIZE = 6
#: The pause between two attempts to reach the database, or to acquire the lock or the profile.
RETRY_SECONDS = 1.0
#: How long one wait for a wake-up lasts.
WAKEUP_WAIT_SECONDS = 1.0
#: The shortest time that a step may take beyond twice its deadline, since it may also wait for the database.
STEP_MARGIN_SECONDS = 60.0
#: The limit for the messages that are in hand when the process stops.
STOP_TIMEOUT_SECONDS = 5.0

T = TypeVar("T")

log = structlog.get_logger()


def run(company: str, phone: int) -> int:
    """Serve the bot until SIGTERM or SIGINT; returns the exit status."""
    process = Process.from_environment(session_name(company, phone), lambda _: DATABASE_POOL_SIZE)
    process.stop_on_signals()
    with ProcessHealth(process) as health:
        return _run(process, company, phone, health)


def _run(process: Process, company: str, phone: int, health: "ProcessHealth") -> int:
    settings, accounts, stopping = process.settings, process.accounts, process.stopping
    bot = _with_database(health, stopping, lambda: accounts.bot(company, phone))
    if stopping.is_set():
        return ExitStatus.STOPPED
    if bot is None or bot.process_name != "wwebjs":
        log.error("session.unknown_bot", company=company, phone=phone, advice="see `bisnesctl bots list`")
        return ExitStatus.MISCONFIGURED
    lock = BotLock(health.database, bot.id)
    if not _acquire(lock, health, stopping):
        return ExitStatus.STOPPED
    try:
        profile = _acquire_profile(settings, bot, health, stopping)
        if profile is None:
            return ExitStatus.STOPPED
        return SessionProcess(settings, accounts, bot, lock, profile, health).run(stopping)
    except ConfigError as error:
        log.error("session.misconfigured", reason=str(error))
        return ExitStatus.MISCONFIGURED
    finally:
        lock.release()


def _acquire(lock: BotLock, health: "ProcessHealth", stopping: threading.Event) -> bool:
    """Wait for the bot's lock; False if the process is to stop before. It is no failure if another process has it."""
    return _wait_for(
        lambda: _with_database(health, stopping, lock.acquire), "another process serves this bot", health, stopping
    )


def _acquire_profile(
    settings: Settings, bot: Bot, health: "ProcessHealth", stopping: threading.Event
) -> Profile | None:  # fmt: skip
    """Wait for the bot's profile; None if the process is to stop before."""
    acquired: list[Profile] = []

    def acquire() -> bool:
        try:
            acquired.append(Profile(settings.profile_dir, bot.company_id, bot.phone_index))
        except ProfileInUse:
            return False
        return True

    _wait_for(acquire, "another process uses its browser's profile", health, stopping)
    return acquired[0] if acquired else None


def _wait_for(
    attempt: Callable[[], bool | None], reason: str, health: "ProcessHealth", stopping: threading.Event
) -> bool:  # fmt: skip
    """Whether it succeeds before the process is to stop. Meanwhile the health shows the reason."""
    while not stopping.is_set():
        if attempt():
            health.set_waiting(None)
            return True
        health.set_waiting(reason)
        stopping.wait(RETRY_SECONDS)
    return False


def _with_database(health: "ProcessHealth", stopping: threading.Event, action: Callable[[], T]) -> T | None:
    """The result of an action, retried until the database is available; None if the process is to stop before."""
    while not stopping.is_set():
        health.progress.begin("waiting for the database")
        try:
            return action()
        except UNAVAILABLE as error:
            log.warning("database.unavailable", reason=str(error))
            stopping.wait(RETRY_SECONDS)
    return None


class ProcessHealth:
    """The heartbeat of the process, from its first moment, and the watchdog over the current thread."""

    def __init__(self, process: Process) -> None:
        self.instance = process.instance
        self.run = process.run
        self.database = process.database
        self.counters = Counters()
        self.progress = Progress(clock, max(2 * process.settings.max_heartbeat_age / 1000, STEP_MARGIN_SECONDS))
        self._heartbeat = process.heartbeat("wwebjs", self.counters)
        self._watchdog = Watchdog(
            self.progress, lambda: self._heartbeat.database_unavailable, self._show_hang, self._end
        )
        self._waiting: str | None = None
        self._hang: str | None = None

    def __enter__(self) -> "ProcessHealth":
        clock.start()
        self._heartbeat.start()
        self._watchdog.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.stop()
        self._heartbeat.stop()

    def set_waiting(self, reason: str | None) -> None:
        """The process waits for something, which is no failure; None: it no longer waits."""
        if reason is not None and reason != self._waiting:
            log.warning("session.waiting", reason=reason)
        self.progress.begin(reason or "starting")
        self._waiting = reason
        self._update()

    def _show_hang(self, reason: str | None) -> None:
        self._hang = reason
        self._update()

    def _update(self) -> None:
        self.counters.degraded = self._hang or self._waiting

    def _end(self, reason: str) -> None:
        end_process(reason, ExitStatus.HUNG, self._heartbeat.write_file)


class SessionProcess:
    """Everything that the session of one bot needs, connected."""

    def __init__(
        self,
        settings: Settings,
        accounts: AccountCache,
        bot: Bot,
        lock: BotLock,
        profile: Profile,
        health: ProcessHealth,
    ) -> None:
        """Raises `ConfigError`."""
        self._bot = bot
        self._lock = lock
        self._health = health
        self._database, self._accounts = health.database, accounts
        self._wakeup = SessionWakeup(settings.redis_dsn, bot.id)
        self._stopping = threading.Event()
        self._working = False
        profile.assign(bot.id)
        options = BrowserOptions.from_settings(settings, profile.path)
        if missing := missing_program(options):
            raise ConfigError(missing)
        self._status = StatusStore(self._database, bot.id, self._publish)
        self._wake_loop: Callable[[], None] = lambda: None  # ends an idle wait of the browser loop
        spare_ids = SpareIds()
        sends = PageSends(
            DatabaseSendGuard(self._database, spare_ids=spare_ids), settings.wwebjs_max_messages_per_second,
            clock=clock.now, submitted=lambda: self._wake_loop(),
        )  # fmt: skip
        self._channel = Channel(
            settings, self._database, accounts, WwebjsConnector(settings), incoming.parse,
            tuned_for_session(settings, bot.id, sends, spare_ids), health.instance, health.run,
            self._wakeup.clear_marker,
        )  # fmt: skip
        self._channel.delivery.paused = True
        recorder = EventRecorder(self._database, bot.id, self._channel.inbox, self._wake_inbox, sends.has_sent)
        self._catch_up = CatchUp(self._status, recorder)
        self._commands = CommandHandlers(self._database, bot.id)
        self._tasks = (sends, self._catch_up, self._downloads(settings))
        limits = Limits(settings.session_memory_mb, settings.wwebjs_takeovers)
        hooks = Hooks(
            stopping=lambda: self._stopping.is_set(),
            set_working=self._set_working,
            idle=lambda: not self._channel.delivery.in_hand,
            memory_mb=_memory_mb,
            handle_commands=self._commands.carry_out,
            lock_held=self._lock_held,
            begin=health.progress.begin,
            bound_number=self._bound_number,
            send_ended=sends.hear,
            woken_by=self._set_loop_waker,
        )
        self._session = Session(options, profile, self._status, recorder, self._tasks, limits, hooks)

    def run(self, stopping: threading.Event) -> ExitStatus:
        """Serve the bot on this thread."""
        self._stopping = stopping
        if (reason := _with_database(self._health, stopping, self._begin)) is not None:
            log.error("session.blocked", reason=reason, advice="see `bisnesctl bots blocked`")
            return ExitStatus.GIVEN_UP
        self._channel.start_in_background()
        threading.Thread(target=self._wait_for_wakeups, name="wake-up", daemon=True).start()
        try:
            return self._session.run(self._stopping)
        finally:
            self._channel.stop(STOP_TIMEOUT_SECONDS)

    def _downloads(self, settings: Settings) -> MediaDownloads:
        limit = settings.media_max_mb << 20
        folder = settings.home / "downloads" / session_name(self._bot.company_id, self._bot.phone_index)
        store = counted_store(settings, self._database, Quotas(settings, self._database, self._accounts))
        return MediaDownloads(self._database, self._bot.id, store, limit, folder)

    def _begin(self) -> str | None:
        """Record the start of the process; returns why the session is blocked, if it is."""
        reason = self._status.block()
        if reason is None:
            self._status.begin()
        return reason

    def _set_loop_waker(self, wake: Callable[[], None]) -> None:
        self._wake_loop = wake

    def _set_working(self, works: bool) -> None:
        """While the page works, messages are claimed and the page tasks run."""
        if works == self._working:
            return
        self._working = works
        self._channel.delivery.paused = not works
        self._health.counters.active_bots = self._health.counters.connections = int(works)
        if works:
            memory.trim()
            self._catch_up.begin()
            self._channel.wake(session_queue(self._bot.id))
        else:
            for task in self._tasks:
                task.paused()

    def _lock_held(self) -> bool:
        try:
            return self._lock.held()
        except DatabaseUnavailable:  # then no other process can acquire it, and nothing is sent
            return True

    def _bound_number(self) -> str | None:
        with self._database.connection() as connection:
            return web_sessions.bound_number(connection, self._bot.id)

    def _wake_inbox(self) -> None:
        self._channel.wake("wwebjs-webhooks")

    def _publish(self, channel: str, text: str) -> None:
        try:
            self._wakeup.client.publish(channel, text)
        except redis.RedisError as error:
            log.debug("redis.unavailable", reason=str(error))

    def _wait_for_wakeups(self) -> None:
        """Pass on the wake-ups for messages and commands."""
        delivery, counters = self._channel.delivery, self._health.counters
        while not self._stopping.is_set():
            if self._wakeup.wait(WAKEUP_WAIT_SECONDS):
                self._commands.wake()
                self._wake_loop()
                self._channel.wake(session_queue(self._bot.id))
            delivery.count(counters)
            counters.processed, counters.received = counters.sent, self._channel.inbox.received


def _memory_mb(browser: Browser) -> float:
    """MB used by this process, the browser and its driver; shared pages count in proportion (PSS)."""
    bytes_used = browser.memory() + process_memory.total([os.getpid()])
    if browser.driver_pid:
        bytes_used += process_tree.memory(browser.driver_pid)
    return bytes_used / 2**20
