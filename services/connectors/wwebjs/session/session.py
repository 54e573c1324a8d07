"""One WhatsApp Web number: browser after browser, until it is told to stop or cannot go on."""

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import partial

import structlog

from services.connectors.wwebjs.browser import chromium
from services.connectors.wwebjs.browser.browser import Browser, BrowserOptions
from services.connectors.wwebjs.browser.chromium import ProgramMissing, StartFailed
from services.connectors.wwebjs.browser.profiles import Profile
from services.connectors.wwebjs.session.browser_loop import BrowserLoop, Hooks
from services.connectors.wwebjs.session.event_recorder import EventRecorder
from services.connectors.wwebjs.session.page_task import PageTask
from services.connectors.wwebjs.session.status_store import AWAY, StatusStore
from services.connectors.wwebjs.states.relaunch import RelaunchPolicy
from services.connectors.wwebjs.states.state_machine import End, Limits, Past, State

#: Seconds that a launch may take, with a first look at the version.
LAUNCH_SECONDS = 60.0
#: Seconds that a browser has to close in order.
CLOSE = 8.0
#: Seconds between two tries to tell the database how it ended.
TELL_AGAIN, TELL_TIMES = 1.0, 10

log = structlog.get_logger()


class ExitStatus(IntEnum):
    """How the process ends; the guard starts it again after HUNG, START_FAILED and ELSEWHERE."""

    STOPPED = 0
    HUNG = 70  # its watchdog ended it
    START_FAILED = 75
    ELSEWHERE = 76  # another process has the number
    GIVEN_UP = 77  # kicked, banned, blocked or linked to another number
    MISCONFIGURED = 78


#: What cannot go on: the kind of its block, and what the manager is told.
_GIVE_UP = {
    End.LOGGED_OUT: ("logged_out", "kicked"),
    End.WRONG_NUMBER: ("wrong_number", "kicked"),
    End.CONFLICT: ("conflict", "kicked"),
    End.BANNED: ("banned", "kicked"),
}


class Session:
    """Runs on the thread that calls `run`, which owns the browsers."""

    def __init__(
        self,
        options: BrowserOptions,
        profile: Profile,
        register: StatusStore,
        recorder: EventRecorder,
        works: Sequence[PageTask],
        limits: Limits,
        hooks: Hooks,
    ) -> None:
        self._options, self._profile, self._register, self._recorder = options, profile, register, recorder
        self._works, self._limits, self._hooks = works, limits, hooks
        self._past, self._recovery = Past(), RelaunchPolicy()

    def run(self, stopping: threading.Event) -> ExitStatus:
        """Serve the number until `stopping` is set, or it cannot go on."""
        self._tell(partial(self._register.change, State.STARTING), 1)
        while not stopping.is_set():
            end, reason = self._serve_one()
            log.info("the browser is served no more", why=end.value, reason=reason)
            if end is End.STOP:
                break
            if end is End.TAKEN:  # whoever has it tells how it is
                return ExitStatus.ELSEWHERE
            if end in _GIVE_UP:
                return self._give_up(end, reason)
            if end is End.FORGET:
                self._profile.archive()
            if self._recovery.hopeless:
                self._tell(partial(self._register.fail, reason))
                return ExitStatus.START_FAILED
            self._tell(partial(self._register.change, State.STARTING, reason, "disconnected"), 1)
            self._hooks.begin("pausing before another browser", self._recovery.pause)
            stopping.wait(self._recovery.pause)
        self._tell(partial(self._register.change, State.STOPPED, None, "disconnected"))
        return ExitStatus.STOPPED

    def _serve_one(self) -> tuple[End, str]:
        begin = self._hooks.begin
        browser = Browser(self._options, begin)
        owner = BrowserLoop(
            browser, self._register, self._recorder, self._profile, self._works, self._limits, self._hooks,
            self._past,
        )  # fmt: skip
        try:
            begin("launching Chromium", LAUNCH_SECONDS)
            browser.launch()
            end, reason = owner.serve()
        except (StartFailed, OSError) as error:
            end, reason = End.FAILED, str(error)
        finally:
            self._recovery.note(owner.up)
            self._close(browser, owner)
        return end, reason

    def _close(self, browser: Browser, owner: BrowserLoop) -> None:
        """In order where that may keep something; what is lost is killed."""
        self._hooks.begin("ending the browser", CLOSE)
        began = time.monotonic()
        if owner.up is not None and browser.lost is None and not owner.course.silent:
            browser.close(CLOSE)
        browser.kill()
        log.debug("the browser has ended", seconds=round(time.monotonic() - began, 2))

    def _give_up(self, end: End, reason: str) -> ExitStatus:
        kind, event = _GIVE_UP[end]
        if end in (End.LOGGED_OUT, End.WRONG_NUMBER):
            self._profile.archive()
        self._tell(partial(self._register.give_up, kind, reason, event))
        return ExitStatus.GIVEN_UP

    def _tell(self, action: Callable[[], None], times: int = TELL_TIMES) -> None:
        """Write it down, though the database may be away for a moment."""
        for _ in range(times):
            self._hooks.begin("telling the database", TELL_AGAIN)
            try:
                action()
                break
            except AWAY as error:
                log.warning("the session's end cannot be told yet", reason=str(error))
                time.sleep(TELL_AGAIN)


def missing_programs(options: BrowserOptions) -> str | None:
    """What keeps any browser from starting, in words; None where nothing does."""
    try:
        chromium.find_chromium(options.chrome)
        chromium.find_driver(options.driver)
    except ProgramMissing as error:
        return str(error)
    return None if shutil.which("setpriv") else "setpriv is missing: install util-linux"
