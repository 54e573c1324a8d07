"""The thread that owns a session's browser, for the life of one browser: events, commands, looks, then work.

What to do is decided by `states.Course`; here it is done.
"""

import queue
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from services.connectors.wwebjs.browser.browser import Browser
from services.connectors.wwebjs.browser.page import CallFailed, CallTimeout, Health, PageLost
from services.connectors.wwebjs.browser.page_events import Lost, PageEvent
from services.connectors.wwebjs.browser.profiles import Profile
from services.connectors.wwebjs.browser.session_clock import clock
from services.connectors.wwebjs.session.event_recorder import EventRecorder
from services.connectors.wwebjs.session.page_task import PageTask
from services.connectors.wwebjs.session.status_store import AWAY, StatusStore
from services.connectors.wwebjs.states.state_machine import (
    SOON,
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

#: Seconds that the page has to answer a look.
LOOK_DEADLINE = 5.0
#: Seconds that an idle turn waits for an event: what is to be sent waits so long at most.
IDLE = 0.02
#: Seconds between two looks whether the number is still ours, two weighings, and two tries to reach the database.
OWN, WEIGH, AGAIN = 2.0, 9.0, 1.0
#: Seconds for which a QR code is shown as valid; WhatsApp changes the first after 60 and later ones after 20.
QR_LIFE = 60.0

log = structlog.get_logger()


@dataclass(slots=True)
class Hooks:
    """What the owner needs of its session; all are called by its thread."""

    stopping: Callable[[], bool]
    working: Callable[[bool], None]  # from now on, or not any more
    idle: Callable[[], bool]  # whether nothing is in hand
    memory_mb: Callable[[Browser], float]
    commands: Callable[["BrowserLoop"], None]  # do those that are waiting
    locked: Callable[[], bool]  # whether the number is still ours alone
    begin: Callable[[str, float], None] = lambda _name, _deadline: None  # what it is at, and the deadline of that
    bound_number: Callable[[], str | None] = lambda: None  # digits of the only number that may be linked; None: any


class _Finished(Exception):
    """The browser is served no more."""

    def __init__(self, end: End, reason: str) -> None:
        super().__init__(reason)
        self.end, self.reason = end, reason


@dataclass(slots=True)
class BrowserLoop:
    """Serves one browser until it ends."""

    browser: Browser
    register: StatusStore
    recorder: EventRecorder
    profile: Profile
    works: Sequence[PageTask]
    limits: Limits
    hooks: Hooks
    past: Past = field(default_factory=Past)
    clock: Callable[[], float] = clock.now
    course: StateMachine = field(init=False)
    asked: End | None = None  # what a command asked for
    _health: Health | None = None  # as it was seen last
    _memory_mb: float = 0.0
    _untold: Show | None = None  # what the database was not there for
    _unstored: list[PageEvent] = field(default_factory=list)
    _bound_known: bool = False  # whether its course knows the number that it is bound to
    _due: dict[str, float] = field(default_factory=dict)  # when what is done now and then is to be done next

    def __post_init__(self) -> None:
        """Its course begins now."""
        self.course = StateMachine(self.limits, self.past, self.clock())

    @property
    def up(self) -> float | None:
        """Seconds since its course came up; None: it did not."""
        return None if self.course.up_at is None else self.clock() - self.course.up_at

    def serve(self) -> tuple[End, str]:
        """Serve it; returns why it ended, and the reason for people."""
        try:
            while True:
                self._turn()
        except _Finished as finished:
            return finished.end, finished.reason
        except PageLost as error:
            return End.LOST, error.reason
        finally:
            self.hooks.working(False)

    def ask(self, end: End) -> None:
        """End it at the end of this turn: a command says so."""
        self.asked = end

    def look_soon(self) -> None:
        """Have the next look come at once."""
        self.course.look_soon(self.clock())

    def _turn(self) -> None:
        self.hooks.begin("a turn", 0.0)
        if self.hooks.stopping():
            raise _Finished(End.STOP, "it was told to stop")
        self._listen()
        self._store()
        try:
            self._serve_page()
        except PageLost:
            if self.browser.lost is not None or self.browser.driver_alive:
                raise
            log.warning("the driver ended, the next look attaches another one")
            self._note(None)
        self._tell()
        if self._is_due("own", OWN) and not self.hooks.locked():
            raise _Finished(End.TAKEN, "another process has the number")

    def _serve_page(self) -> None:
        self.hooks.commands(self)
        if self.asked is not None:
            raise _Finished(self.asked, "an operator asked for it")
        if self.clock() >= self.course.due:
            self._look() if self.course.opened else self._open()
        if not (self.course.works and self._work()) and self.hooks.idle():
            self._do(self.course.rest())

    # --- Events --------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Take note of what the page told."""
        wait = IDLE
        while True:
            try:
                event = self.browser.events.get(timeout=wait) if wait else self.browser.events.get_nowait()
            except queue.Empty:
                return
            wait = 0.0
            if isinstance(event, Lost):
                raise PageLost(event.reason)
            if event.name == "bridge.error":
                log.warning("an event of the page could not be read", about=event.data)
            self._unstored.append(event)
            self._do(self.course.hear(event.name, event.data, self.clock()))

    def _store(self) -> None:
        """Store what was told, then let the page forget it.

        It is kept while the database is away, and until the page is known to be of the bot's number.
        """
        if not (self._unstored and self._bound_known and self.course.identified) or self.clock() < self._due.get(
            "store", 0.0
        ):
            return
        try:
            self.recorder.record(self._unstored)
        except AWAY as error:
            log.warning("events are kept until the database is back", events=len(self._unstored), reason=str(error))
            self._due["store"] = self.clock() + AGAIN
            return
        last = self._unstored[-1]
        self._unstored = []
        self.browser.acknowledge(last.boot, last.seq)

    # --- The page ------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Open the page, which may be out of reach."""
        try:
            self.browser.open()
            refusal = None
        except (CallFailed, CallTimeout) as error:
            refusal = str(error)
            if isinstance(error, CallTimeout) and not self.browser.answers(LOOK_DEADLINE):
                raise PageLost("the browser does not answer while it loads the page") from error
        self._do(self.course.open(refusal, self.clock()))
        if refusal is not None and self._is_due("weigh", WEIGH):
            self._weigh()

    def _look(self) -> None:
        if not self._learn_bound_number():
            return
        before = self.course.view
        self._note(self._ask_health())
        if self._is_due("weigh", WEIGH) or self.course.view is not before:
            self._weigh()

    def _learn_bound_number(self) -> bool:
        """Whether the number that the bot is bound to is known: before that, the page is not believed to work."""
        if not self._bound_known:
            try:
                self.course.bound = self.hooks.bound_number()
            except AWAY as error:
                log.warning("the bot's number is not known yet", reason=str(error))
                self.course.due = self.clock() + AGAIN
                return False
            self._bound_known = True
        return True

    def _note(self, health: Health | None) -> None:
        self._health = health
        self._do(self.course.look(health, self.profile.linked, self.clock()))

    def _ask_health(self) -> Health | None:
        """What the page says of itself; None where it does not answer."""
        try:
            return self.browser.page.health(LOOK_DEADLINE)
        except (CallTimeout, CallFailed) as error:
            log.warning("the page does not say how it is", reason=str(error))
            return None

    def _weigh(self) -> None:
        """Measure its memory, and write down that it lives."""
        self._memory_mb = self.hooks.memory_mb(self.browser)
        health = self._health
        versions = {"waJs": health.wa_js, "waWeb": health.wa_web} if health else {}
        known = {name: value for name, value in versions.items() if value}
        try:
            self.register.beat(self.course.works and not self.course.silent, self._memory_mb, known)
        except AWAY as error:
            log.warning("the heartbeat cannot be written", reason=str(error))
        self._do(self.course.weigh(self._memory_mb))

    def _work(self) -> bool:
        """A piece of work; whether there was any."""
        try:
            return any(work.turn(self.browser.page) for work in self.works)
        except CallTimeout as error:
            log.warning("a call of the page took too long, looking how it is", reason=str(error))
            self.look_soon()
        return True

    def _is_due(self, what: str, seconds: float) -> bool:
        """Whether something that is done every so many seconds is to be done now."""
        now = self.clock()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + seconds
        return True

    # --- Actions -------------------------------------------------------------------------------------------------

    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            self._act(action)

    def _act(self, action: Action) -> None:
        match action:
            case Finish(end, reason):
                if end is End.WRONG_NUMBER:  # whoever scanned the code is not ours
                    self._unstored = []
                    self._ask_page("WPP.conn.logout")
                raise _Finished(end, reason)
            case Show():
                self._untold = action
                self._tell()
            case Do.REST | Do.WORK:
                self.hooks.working(action is Do.WORK)
            case Do.SHOW_QR:
                self._show_qr()
            case Do.REFRESH_QR:
                self._ask_page("WPP.conn.refreshQR")
                self.course.look_soon(self.clock() + SOON)
            case Do.TAKE_OVER:
                log.warning("taking the session back", times=len(self.past.takeovers))
                self._ask_page("__wa.takeOver")
            case Do.MARK_LINKED:
                self.profile.mark(self._number() or "")

    def _ask_page(self, function: str) -> Any:
        """What a function of the page gives; None where it fails, which the next look says more of."""
        try:
            return self.browser.page.call(function, deadline=LOOK_DEADLINE)
        except (CallTimeout, CallFailed) as error:
            log.warning("the page cannot do what it is asked for", function=function, reason=str(error))
            return None

    def _tell(self) -> None:
        """Tell everybody what is to be told; the database may be away, then it is told as soon as it is back."""
        if self._untold is None or self.clock() < self._due.get("tell", 0.0):
            return
        show = self._untold
        number = self._number() if show.state is State.WORKING else None
        try:
            self.register.change(show.state, show.reason, show.event, number)
        except AWAY as error:
            log.warning("the session's state cannot be told yet", state=str(show.state), reason=str(error))
            self._due["tell"] = self.clock() + AGAIN
            return
        self._untold = None

    def _number(self) -> str | None:
        """Digits of the number that it is linked to."""
        return self._health.number if self._health else None

    def _show_qr(self) -> None:
        text = self._ask_page("__wa.qr")
        if text is None:
            self.course.look_soon(self.clock() + SOON)
            return
        try:
            self.register.show_qr(text, QR_LIFE)
        except AWAY as error:
            log.warning("the QR code cannot be shown", reason=str(error))
