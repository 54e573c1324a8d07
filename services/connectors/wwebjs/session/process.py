"""The process of one WhatsApp Web number: everything that it needs, connected in one place."""

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
from services.connectors.wwebjs.sending.page_window import PageWindow
from services.connectors.wwebjs.sending.send_guard import DatabaseSendGuard
from services.connectors.wwebjs.session.bot_lock import BotLock
from services.connectors.wwebjs.session.browser_loop import Hooks
from services.connectors.wwebjs.session.catch_up import CatchUp
from services.connectors.wwebjs.session.command_handlers import CommandHandlers
from services.connectors.wwebjs.session.event_recorder import EventRecorder
from services.connectors.wwebjs.session.media_downloads import MediaDownloads
from services.connectors.wwebjs.session.session import ExitStatus, Session, missing_programs
from services.connectors.wwebjs.session.status_store import AWAY, StatusStore
from services.connectors.wwebjs.session.watchdog import Progress, Watchdog, end_process
from services.connectors.wwebjs.states.state_machine import Limits
from services.connectors.wwebjs.translation.connector import WwebjsConnector
from services.database.connection import DatabaseUnavailable
from services.media.store import media_store
from services.message import Bot, Status
from services.runtime import memory
from services.runtime.account_cache import AccountCache
from services.runtime.heartbeat import Counters
from services.runtime.process import Process
from services.wakeups import SessionWakeup, session_queue

#: Connections to PostgreSQL of one session.
POOL = 6
#: Seconds between two tries to reach the database, or to get the number.
PAUSE = 1.0
#: Seconds that a step of the owner may take beyond twice its deadline, at least: it may wait for the database as well.
STEP_MARGIN_SECONDS = 60.0
#: Seconds for what is in hand at the end.
STOP_TIMEOUT = 5.0

T = TypeVar("T")

log = structlog.get_logger()


def run(company: str, phone: int) -> int:
    """Serve the number until SIGTERM or SIGINT; returns the exit status."""
    process = Process.from_environment(session_name(company, phone), lambda _: POOL)
    process.stop_on_signals()
    with ProcessHealth(process) as health:
        return _run(process, company, phone, health)


def _run(process: Process, company: str, phone: int, health: "ProcessHealth") -> int:
    settings, directory, stopping = process.settings, process.accounts, process.stopping
    bot = _insist(health, stopping, lambda: directory.bot(company, phone))
    if stopping.is_set():
        return ExitStatus.STOPPED
    if bot is None or bot.process_name != "wwebjs":
        log.error("there is no such WhatsApp Web number: see `bisnesctl bots list`", company=company, phone=phone)
        return ExitStatus.MISCONFIGURED
    lock = BotLock(health.database, bot.id)
    if not _take(lock, health, stopping):
        return ExitStatus.STOPPED
    try:
        profile = _take_profile(settings, bot, health, stopping)
        if profile is None:
            return ExitStatus.STOPPED
        return Wired(settings, directory, bot, lock, profile, health).run(stopping)
    except ConfigError as error:
        log.error("the session cannot start", reason=str(error))
        return ExitStatus.MISCONFIGURED
    finally:
        lock.release()


def _take(lock: BotLock, health: "ProcessHealth", stopping: threading.Event) -> bool:
    """Wait until the number is ours; False where it is to stop before. Another process that has it is no failure."""
    return _wait_for(lambda: _insist(health, stopping, lock.take), "another process has this number", health, stopping)


def _take_profile(settings: Settings, bot: Bot, health: "ProcessHealth", stopping: threading.Event) -> Profile | None:
    """The bot's profile, once no other process has it; None where it is to stop before."""
    taken: list[Profile] = []

    def take() -> bool:
        try:
            taken.append(Profile(settings.profile_dir, bot.company_id, bot.phone_index))
        except ProfileInUse:
            return False
        return True

    _wait_for(take, "another process has its browser's profile", health, stopping)
    return taken[0] if taken else None


def _wait_for(
    attempt: Callable[[], bool | None], reason: str, health: "ProcessHealth", stopping: threading.Event
) -> bool:  # fmt: skip
    """Whether it succeeds before the process is to stop; why it waits is shown meanwhile."""
    while not stopping.is_set():
        if attempt():
            health.waits(None)
            return True
        health.waits(reason)
        stopping.wait(PAUSE)
    return False


def _insist(health: "ProcessHealth", stopping: threading.Event, action: Callable[[], T]) -> T | None:
    """What an action gives that needs the database, however long that is away; None where it is to stop before."""
    while not stopping.is_set():
        health.progress.begin("waiting for the database")
        try:
            return action()
        except AWAY as error:
            log.warning("waiting for the database", reason=str(error))
            stopping.wait(PAUSE)
    return None


class ProcessHealth:
    """What shows from the first moment that the process lives, and whether the thread that makes it moves."""

    def __init__(self, process: Process) -> None:
        self.instance, self.run, self.database = process.instance, process.run, process.database
        self.counters = Counters()
        self.progress = Progress(clock, max(2 * process.settings.max_heartbeat_age / 1000, STEP_MARGIN_SECONDS))
        self._heartbeat = process.heartbeat("wwebjs", self.counters)
        self._watchdog = Watchdog(self.progress, lambda: self._heartbeat.database_unavailable, self._show, self._end)
        self._waits: str | None = None
        self._hangs: str | None = None

    def __enter__(self) -> "ProcessHealth":
        clock.start()
        self._heartbeat.start()
        self._watchdog.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.stop()
        self._heartbeat.stop()

    def waits(self, reason: str | None) -> None:
        """It waits for something, which is no failure."""
        if reason is not None and reason != self._waits:
            log.warning("waiting", reason=reason)
        self.progress.begin(reason or "starting")
        self._waits = reason
        self._tell()

    def _show(self, reason: str | None) -> None:
        self._hangs = reason
        self._tell()

    def _tell(self) -> None:
        self.counters.degraded = self._hangs or self._waits

    def _end(self, reason: str) -> None:
        end_process(reason, ExitStatus.HUNG, self._heartbeat.write_file)


class Wired:
    """Everything that one number needs, connected in one place."""

    def __init__(
        self,
        settings: Settings,
        directory: AccountCache,
        bot: Bot,
        lock: BotLock,
        profile: Profile,
        health: ProcessHealth,
    ) -> None:
        """Raises `ConfigError`."""
        name = session_name(bot.company_id, bot.phone_index)
        self._bot, self._lock, self._health, self._counters = bot, lock, health, health.counters
        self._database = database = health.database
        self._bell = SessionWakeup(settings.redis_dsn, bot.id)
        profile.take(bot.id)
        self._options = BrowserOptions.from_settings(settings, profile.path)
        if missing := missing_programs(self._options):
            raise ConfigError(missing)
        self._register = StatusStore(database, bot.id, self._publish)
        recorder = EventRecorder(database, bot.id, self._nudge_inbox)
        window = PageWindow(DatabaseSendGuard(database), settings.wwebjs_max_messages_per_second, clock=clock.now)
        self._sender = Channel(
            settings, database, directory, WwebjsConnector(settings), tuned_for_session(settings, bot.id, window),
            health.instance, health.run, self._bell.clear_marker,
        )  # fmt: skip
        self._sender.delivery.paused = True
        self._gap = CatchUp(database, bot.id, recorder)
        limit = settings.media_max_mb << 20
        downloads = MediaDownloads(database, bot.id, media_store(settings), limit, settings.home / "downloads" / name)
        self._works = (window, self._gap, downloads)
        self._orders = CommandHandlers(database, bot.id)
        self._works_now = False
        limits = Limits(settings.session_memory_mb, settings.wwebjs_takeovers)
        self._stopping = threading.Event()
        hooks = Hooks(
            lambda: self._stopping.is_set(), self._set_working, lambda: not self._sender.delivery.in_hand,
            self._memory_mb, self._orders.carry_out, self._still_ours, health.progress.begin, self._bound_number,
        )  # fmt: skip
        self._session = Session(self._options, profile, self._register, recorder, self._works, limits, hooks)

    def run(self, stopping: threading.Event) -> ExitStatus:
        """Serve the number on this thread."""
        self._stopping = stopping
        if (reason := _insist(self._health, stopping, self._begin)) is not None:
            log.error("the number is blocked: see `bisnesctl bots blocked`", reason=reason)
            return ExitStatus.GIVEN_UP
        return self._serve()

    def _begin(self) -> str | None:
        """Note that a process of it has started; returns why it must not go on, if so."""
        reason = self._register.block()
        if reason is None:
            self._register.begin()
        return reason

    def _serve(self) -> ExitStatus:
        self._sender.start_in_background()
        threading.Thread(target=self._hear, name="bell", daemon=True).start()
        try:
            return self._session.run(self._stopping)
        finally:
            self._sender.stop(STOP_TIMEOUT)

    def _set_working(self, works: bool) -> None:
        """Messages are claimed, and the page is asked for what was missed, while it works."""
        if works == self._works_now:
            return
        self._works_now = works
        self._sender.delivery.paused = not works
        self._counters.active_bots = int(works)
        if works:
            memory.trim()
            self._gap.begin()
            self._sender.wake(session_queue(self._bot.id))
        else:
            for work in self._works:
                work.paused()

    def _memory_mb(self, browser: Browser) -> float:
        """Of this process, the browser and its driver, of shared pages their share."""
        beside = process_memory.total([os.getpid()]) + (
            process_tree.memory(browser.driver_pid) if browser.driver_pid else 0
        )
        return (browser.memory() + beside) / 2**20

    def _still_ours(self) -> bool:
        try:
            return self._lock.held()
        except DatabaseUnavailable:  # then nobody else can take it either, and nothing is sent
            return True

    def _bound_number(self) -> str | None:
        with self._database.connection() as connection:
            return web_sessions.bound_number(connection, self._bot.id)

    def _nudge_inbox(self) -> None:
        self._sender.wake("wwebjs-webhooks")

    def _publish(self, channel: str, text: str) -> None:
        try:
            self._bell.client.publish(channel, text)
        except redis.RedisError as error:
            log.debug("Redis is away", reason=str(error))

    def _hear(self) -> None:
        """Pass on what rings: messages and commands."""
        while not self._stopping.is_set():
            if self._bell.wait(PAUSE):
                self._orders.rung()
                self._sender.wake(session_queue(self._bot.id))
            self._counters.processed = self._sender.delivery.counts[Status.SENT]
            self._counters.errors = self._sender.delivery.counts[Status.FAILED]
