"""The session of one WhatsApp Web bot: one browser after another, until it is to stop or cannot continue."""

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial

import structlog

from bisnesctl.host import browsers
from bisnesctl.host.browsers import ProgramMissing
from services.connectors.wwebjs.browser import chromium
from services.connectors.wwebjs.browser.browser import Browser, BrowserOptions
from services.connectors.wwebjs.browser.chromium import StartFailed
from services.connectors.wwebjs.browser.profiles import Profile
from services.connectors.wwebjs.session.browser_loop import BrowserLoop, Hooks, PageTask
from services.connectors.wwebjs.session.event_recorder import EventRecorder
from services.connectors.wwebjs.session.status_store import UNAVAILABLE, StatusStore
from services.connectors.wwebjs.states.relaunch import RelaunchPolicy
from services.connectors.wwebjs.states.state_machine import End, Limits, Past, State

#: The limit for a launch, including `chromium --version`.
LAUNCH_TIMEOUT_SECONDS = 60.0
#: The limit for a browser to close cleanly.
CLOSE_TIMEOUT_SECONDS = 8.0
#: The pause between two attempts to publish the end of the session.
PUBLISH_RETRY_SECONDS = 1.0
#: Attempts to publish the end of the session.
MAX_PUBLISH_ATTEMPTS = 10

log = structlog.get_logger()


class ExitStatus(IntEnum):
    """The exit status of the process. The guard restarts it after HUNG, START_FAILED and ELSEWHERE."""

    STOPPED = 0
    HUNG = 70  # its watchdog ended it
    START_FAILED = 75
    ELSEWHERE = 76  # another process serves the bot
    GIVEN_UP = 77  # kicked, banned, blocked or linked to another number
    MISCONFIGURED = 78


#: The ends after which the session is blocked: the kind of the block, and the event for the manager.
_BLOCKING_ENDS = {
    End.LOGGED_OUT: ("logged_out", "kicked"),
    End.WRONG_NUMBER: ("wrong_number", "kicked"),
    End.CONFLICT: ("conflict", "kicked"),
    End.BANNED: ("banned", "kicked"),
}
#: The kinds of the blocks, which are the causes of the holds that come with them.
BLOCK_KINDS = tuple(kind for kind, _ in _BLOCKING_ENDS.values())


@dataclass
class Session:
    """Runs on the thread that calls `run`, which owns the browsers."""

    options: BrowserOptions
    profile: Profile
    status: StatusStore
    recorder: EventRecorder
    tasks: Sequence[PageTask]
    limits: Limits
    hooks: Hooks
    _past: Past = field(init=False, default_factory=Past)
    _relaunch: RelaunchPolicy = field(init=False, default_factory=RelaunchPolicy)

    def run(self, stopping: threading.Event) -> ExitStatus:
        """Serve the bot until `stopping` is set, or the session cannot continue."""
        self._publish(partial(self.status.change, State.STARTING), 1)
        while not stopping.is_set():
            end, reason = self._serve_one()
            log.info("browser.ended", end=end.value, reason=reason)
            if end is End.STOP:
                break
            if end is End.ELSEWHERE:  # the other process publishes the state
                return ExitStatus.ELSEWHERE
            if end in _BLOCKING_ENDS:
                return self._give_up(end, reason)
            if end is End.FORGET:
                self.profile.archive()
            if self._relaunch.hopeless:
                self._publish(partial(self.status.fail, reason))
                return ExitStatus.START_FAILED
            self._publish(partial(self.status.change, State.STARTING, reason, "disconnected"), 1)
            self.hooks.begin("pausing before another browser", self._relaunch.pause)
            stopping.wait(self._relaunch.pause)
        self._publish(partial(self.status.change, State.STOPPED, None, "disconnected"))
        return ExitStatus.STOPPED

    def _serve_one(self) -> tuple[End, str]:
        browser = Browser(self.options, self.hooks.begin)
        loop = BrowserLoop(
            browser, self.status, self.recorder, self.profile, self.tasks, self.limits, self.hooks, self._past
        )
        try:
            self.hooks.begin("launching Chromium", LAUNCH_TIMEOUT_SECONDS)
            browser.launch()
            end, reason = loop.serve()
        except (StartFailed, OSError) as error:
            end, reason = End.FAILED, str(error)
        finally:
            self._relaunch.note(loop.up_seconds)
            self._close(browser, loop)
        return end, reason

    def _close(self, browser: Browser, loop: BrowserLoop) -> None:
        """Close the browser cleanly if that may save anything, and kill it otherwise."""
        self.hooks.begin("ending the browser", CLOSE_TIMEOUT_SECONDS)
        began = time.monotonic()
        if loop.up_seconds is not None and browser.lost is None and not loop.machine.silent:
            browser.close(CLOSE_TIMEOUT_SECONDS)
        browser.kill()
        log.debug("browser.closed", seconds=round(time.monotonic() - began, 2))

    def _give_up(self, end: End, reason: str) -> ExitStatus:
        kind, event = _BLOCKING_ENDS[end]
        if end is End.LOGGED_OUT and (damage := chromium.profile_damage(self.profile.path)):
            reason = (
                f"its profile is damaged, and it is no longer linked: {damage}. Check the disk, remove the device "
                "on the phone, unblock it, then scan the new QR code"
            )
        if end in (End.LOGGED_OUT, End.WRONG_NUMBER):
            self.profile.archive()
        self._publish(partial(self.status.give_up, kind, reason, event))
        return ExitStatus.GIVEN_UP

    def _publish(self, action: Callable[[], None], attempts: int = MAX_PUBLISH_ATTEMPTS) -> None:
        """Write to the database, which may be unavailable for a moment."""
        for _ in range(attempts):
            self.hooks.begin("writing to the database", PUBLISH_RETRY_SECONDS)
            try:
                action()
                break
            except UNAVAILABLE as error:
                log.warning("session.state_unpublished", reason=str(error))
                time.sleep(PUBLISH_RETRY_SECONDS)


def missing_program(options: BrowserOptions) -> str | None:
    """The program without which no browser can start, and how to install it; None if all are there."""
    try:
        browsers.find_chromium(options.chrome)
        browsers.find_driver(options.driver)
    except ProgramMissing as error:
        return str(error)
    return None if shutil.which("setpriv") else "setpriv is missing: install util-linux"
