"""The loop of the thread that owns a session's browser, for the life of one browser.

Each turn handles events, commands, a look at the page, then one step of a page task. `StateMachine` decides, and the
loop carries out its actions.
"""

import queue
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from services.connectors.wwebjs.browser.browser import Browser
from services.connectors.wwebjs.browser.page import CallFailed, CallTimeout, Page, PageLost
from services.connectors.wwebjs.browser.page_events import Lost, PageEvent
from services.connectors.wwebjs.browser.page_health import Health
from services.connectors.wwebjs.browser.profiles import Profile
from services.connectors.wwebjs.browser.session_clock import clock
from services.connectors.wwebjs.session.event_recorder import EventRecorder
from services.connectors.wwebjs.session.status_store import UNAVAILABLE, StatusStore
from services.connectors.wwebjs.states.state_machine import (
    CHANGING_LOOK_SECONDS,
    Action,
    Do,
    End,
    Finish,
    Limits,
    Past,
    Show,
    State,
    StateMachine,
)

#: The limit for the page to answer a look.
LOOK_TIMEOUT_SECONDS = 5.0
#: How long an idle turn waits for an event or a wake-up, at most: commands and a stop are noticed afterwards.
IDLE_SECONDS = 0.25
#: The shortest pause between two looks at the page.
LOOK_PAUSE_SECONDS = 0.02
#: The pause of the page tasks after a call that timed out.
WORK_PAUSE_SECONDS = 0.05
#: How long acknowledgements are gathered, so that those of a moment are stored together.
GATHER_SECONDS = 0.25
#: The time between two checks of the bot's lock.
LOCK_CHECK_SECONDS = 2.0
#: The time between two measurements of memory.
MEMORY_CHECK_SECONDS = 9.0
#: The pause before a write to the database is retried.
DATABASE_RETRY_SECONDS = 1.0
#: How long a QR code is shown as valid. WhatsApp replaces the first one after 60 seconds, later ones after 20.
QR_VALID_SECONDS = 60.0

log = structlog.get_logger()


class PageTask(Protocol):
    """Work that needs the page, in small steps. Only the thread of the browser loop calls it."""

    def turn(self, page: Page) -> bool:
        """Take one step if one is due; returns whether there was one.

        Raises `PageLost` and `CallTimeout`: then the loop looks at the page before it calls again.
        """

    def wait_seconds(self) -> float:
        """How long no step is due, as far as is known."""

    def paused(self) -> None:
        """The session no longer works. Called once each time."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """The functions that the loop needs of its session. The loop's thread calls them."""

    stopping: Callable[[], bool]
    set_working: Callable[[bool], None]
    idle: Callable[[], bool]  # whether no message is in hand
    memory_mb: Callable[[Browser], float]
    handle_commands: Callable[["BrowserLoop"], None]
    lock_held: Callable[[], bool]  # whether no other process serves the bot
    begin: Callable[[str, float], None] = lambda _step, _deadline: None  # a step begins, with a deadline in seconds
    bound_number: Callable[[], str | None] = lambda: None  # digits of the only number that may be linked; None: any
    send_ended: Callable[[dict[str, Any]], None] = lambda _: None  # the page reports on a call that sends
    woken_by: Callable[[Callable[[], None]], None] = lambda _: None  # receives the function that ends an idle wait


class _Finished(Exception):
    """The loop of this browser ends."""

    def __init__(self, end: End, reason: str) -> None:
        super().__init__(reason)
        self.end = end
        self.reason = reason


@dataclass(slots=True)
class BrowserLoop:
    """Serves one browser until it ends."""

    browser: Browser
    status: StatusStore
    recorder: EventRecorder
    profile: Profile
    tasks: Sequence[PageTask]
    limits: Limits
    hooks: Hooks
    past: Past = field(default_factory=Past)
    clock: Callable[[], float] = clock.now
    machine: StateMachine = field(init=False)
    requested_end: End | None = None  # by a command
    _health: Health | None = None  # the page's last report
    _unpublished: Show | None = None  # a state that waits for the database
    _unstored: list[PageEvent] = field(default_factory=list)
    _unstored_since: float = 0.0
    _bound_number_known: bool = False  # whether the machine knows the number that the bot is bound to
    _due: dict[str, float] = field(default_factory=dict)  # when regular work, or a retry, is due

    def __post_init__(self) -> None:
        self.machine = StateMachine(self.limits, self.past, self.clock())

    @property
    def up_seconds(self) -> float | None:
        """How long the browser has been up; None: it did not come up."""
        return None if self.machine.up_at is None else self.clock() - self.machine.up_at

    def serve(self) -> tuple[End, str]:
        """Serve the browser; returns why it ended, and a readable reason."""
        self.hooks.woken_by(self.wake)
        try:
            while True:
                self._turn()
        except _Finished as finished:
            return finished.end, finished.reason
        except PageLost as error:
            return End.LOST, error.reason
        finally:
            self.hooks.set_working(False)

    def request_end(self, end: End) -> None:
        """End the loop after this turn, because of a command."""
        self.requested_end = end

    def wake(self) -> None:
        """End an idle wait. Safe for any thread."""
        self.browser.events.put(None)

    def look_soon(self) -> None:
        """Look at the page as soon as possible."""
        self.machine.look_soon(self.clock())

    def _turn(self) -> None:
        self.hooks.begin("a turn", 0.0)
        if self.hooks.stopping():
            raise _Finished(End.STOP, "the process is to stop")
        self._receive_events()
        self._store_events()
        try:
            self._serve_page()
        except PageLost:
            if self.browser.lost is not None or self.browser.driver_alive:
                raise
            log.warning("browser.driver_ended", effect="the next call attaches another one")
            self._note_look(None)
        self._publish()
        if self._is_due("lock", LOCK_CHECK_SECONDS) and not self.hooks.lock_held():
            raise _Finished(End.ELSEWHERE, "another process serves this bot")

    def _serve_page(self) -> None:
        self.hooks.handle_commands(self)
        if self.requested_end is not None:
            raise _Finished(self.requested_end, "an operator asked for it")
        if self.clock() >= self.machine.due:
            self._look() if self.machine.opened else self._open()
        if not (self.machine.works and self._work()) and self.hooks.idle():
            self._act_all(self.machine.note_idle())

    # --- Events --------------------------------------------------------------------------------------------------

    def _receive_events(self) -> None:
        timeout = self._idle_seconds()
        while True:
            try:
                event = self.browser.events.get(timeout=timeout) if timeout else self.browser.events.get_nowait()
            except queue.Empty:
                return
            timeout = 0.0
            if event is None:
                continue
            if isinstance(event, Lost):
                raise PageLost(event.reason)
            if event.name == "bridge.error":
                log.warning("page.event_unreadable", about=event.data)
            elif event.name == "send.ended":
                self.hooks.send_ended(event.data)
            if not self._unstored:
                self._unstored_since = self.clock()
            self._unstored.append(event)
            self._act_all(self.machine.hear(event.name, event.data, self.clock()))

    def _idle_seconds(self) -> float:
        """How long a turn may wait for an event."""
        now = self.clock()
        waits = [IDLE_SECONDS, max(LOOK_PAUSE_SECONDS, self.machine.due - now)]
        if self.machine.works:
            pause = self._due.get("work", 0.0) - now
            waits += [max(pause, task.wait_seconds()) for task in self.tasks]
        if self._unstored:
            waits.append(max(LOOK_PAUSE_SECONDS, self._unstored_since + GATHER_SECONDS - now))
        return max(0.0, min(waits))

    def _store_events(self) -> None:
        """Store events, then let the page drop them.

        They are kept while the database is unavailable, and until the page is known to belong to the bot's number.
        """
        known = self._bound_number_known and self.machine.identified
        if not (self._unstored and known) or self.clock() < self._due.get("store", 0.0):
            return
        if self.clock() < self._unstored_since + GATHER_SECONDS and self.recorder.can_wait(self._unstored):
            return
        try:
            self.recorder.record(self._unstored)
        except UNAVAILABLE as error:
            log.warning("page.events_kept", events=len(self._unstored), reason=str(error))
            self._due["store"] = self.clock() + DATABASE_RETRY_SECONDS
            return
        last = self._unstored[-1]
        self._unstored = []
        self.browser.acknowledge(last.boot, last.seq)

    # --- The page ------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self.browser.open()
            refusal = None
        except (CallFailed, CallTimeout) as error:
            refusal = str(error)
            if isinstance(error, CallTimeout) and not self.browser.answers(LOOK_TIMEOUT_SECONDS):
                raise PageLost("the browser does not answer while it loads the page") from error
        self._act_all(self.machine.open(refusal, self.clock()))
        if refusal is not None and self._is_due("memory", MEMORY_CHECK_SECONDS):
            self._check_memory()

    def _look(self) -> None:
        if not self._learn_bound_number():
            return
        before = self.machine.page
        self._note_look(self._read_health())
        if self._is_due("memory", MEMORY_CHECK_SECONDS) or self.machine.page is not before:
            self._check_memory()

    def _learn_bound_number(self) -> bool:
        """Whether the number that the bot is bound to is known. Until then the page must not work."""
        if not self._bound_number_known:
            try:
                self.machine.bound = self.hooks.bound_number()
            except UNAVAILABLE as error:
                log.warning("session.bound_number_unknown", reason=str(error))
                self.machine.due = self.clock() + DATABASE_RETRY_SECONDS
                return False
            self._bound_number_known = True
        return True

    def _note_look(self, health: Health | None) -> None:
        self._health = health
        self._act_all(self.machine.look(health, self.profile.linked, self.clock()))

    def _read_health(self) -> Health | None:
        """The page's report on itself; None if it does not answer."""
        try:
            return self.browser.page.health(LOOK_TIMEOUT_SECONDS)
        except (CallTimeout, CallFailed) as error:
            log.warning("page.health_failed", reason=str(error))
            return None

    def _check_memory(self) -> None:
        """Measure the memory, and write the heartbeat."""
        memory_mb = self.hooks.memory_mb(self.browser)
        health = self._health
        versions = {"waJs": health.wa_js, "waWeb": health.wa_web} if health else {}
        known = {name: value for name, value in versions.items() if value}
        try:
            self.status.heartbeat(self.machine.works and not self.machine.silent, memory_mb, known)
        except UNAVAILABLE as error:
            log.warning("session.heartbeat_failed", reason=str(error))
        self._act_all(self.machine.note_memory(memory_mb))

    def _work(self) -> bool:
        """Take one step of a page task; returns whether one was due."""
        if self.clock() < self._due.get("work", 0.0):
            return False
        try:
            return any(task.turn(self.browser.page) for task in self.tasks)
        except CallTimeout as error:
            log.warning("page.call_timed_out", reason=str(error))
            self._due["work"] = self.clock() + WORK_PAUSE_SECONDS
            self.look_soon()
        return True

    def _is_due(self, what: str, seconds: float) -> bool:
        """Whether work that is repeated every `seconds` is due; if so, it is due again `seconds` later."""
        now = self.clock()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + seconds
        return True

    # --- Actions -------------------------------------------------------------------------------------------------

    def _act_all(self, actions: Iterable[Action]) -> None:
        for action in actions:
            self._act(action)

    def _act(self, action: Action) -> None:
        match action:
            case Finish(end, reason):
                if end is End.WRONG_NUMBER:  # the events belong to another number
                    self._unstored = []
                    self._call_page("WPP.conn.logout")
                raise _Finished(end, reason)
            case Show():
                self._unpublished = action
                self._publish()
            case Do.REST | Do.WORK:
                self.hooks.set_working(action is Do.WORK)
            case Do.SHOW_QR:
                self._show_qr()
            case Do.REFRESH_QR:
                self._call_page("WPP.conn.refreshQR")
                self.machine.look_soon(self.clock() + CHANGING_LOOK_SECONDS)
            case Do.TAKE_OVER:
                log.warning("session.taken_over", times=len(self.past.takeovers))
                self._call_page("__wa.takeOver")
            case Do.MARK_LINKED:
                self.profile.mark_linked(self._number() or "")

    def _call_page(self, function: str) -> Any:
        """The result of a function of the page; None if it fails. The next look shows why."""
        try:
            return self.browser.page.call(function, deadline=LOOK_TIMEOUT_SECONDS)
        except (CallTimeout, CallFailed) as error:
            log.warning("page.call_failed", function=function, reason=str(error))
            return None

    def _publish(self) -> None:
        """Publish the state; if the database is unavailable, a later turn retries."""
        if self._unpublished is None or self.clock() < self._due.get("publish", 0.0):
            return
        show = self._unpublished
        number = self._number() if show.state is State.WORKING else None
        try:
            self.status.change(show.state, show.reason, show.event, number)
        except UNAVAILABLE as error:
            log.warning("session.state_unpublished", state=str(show.state), reason=str(error))
            self._due["publish"] = self.clock() + DATABASE_RETRY_SECONDS
            return
        self._unpublished = None

    def _number(self) -> str | None:
        """Digits of the linked number."""
        return self._health.number if self._health else None

    def _show_qr(self) -> None:
        text = self._health.qr if self._health else None
        if text is None:
            self.machine.look_soon(self.clock() + CHANGING_LOOK_SECONDS)
            return
        try:
            self.status.show_qr(text, QR_VALID_SECONDS)
        except UNAVAILABLE as error:
            log.warning("session.qr_unpublished", reason=str(error))
