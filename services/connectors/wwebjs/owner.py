"""The thread that owns a session's browser, for the life of one browser: events, commands, heartbeats, then work."""

import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import structlog

from services.connectors.wwebjs.browser import Browser
from services.connectors.wwebjs.events import Lost, PageEvent
from services.connectors.wwebjs.page import CallFailed, CallTimeout, Health, PageLost
from services.connectors.wwebjs.profiles import Profile
from services.connectors.wwebjs.recorder import Recorder
from services.connectors.wwebjs.register import AWAY, Register, State
from services.connectors.wwebjs.view import Seen, View, see
from services.connectors.wwebjs.work import Work

#: Seconds between two heartbeats, and between two looks at a page that is on its way from one state to another.
BEAT, SOON = 10.0, 0.5
#: Heartbeats that may be missed in a row, and seconds for one.
MISSED, BEAT_DEADLINE = 1, 5.0
#: Seconds that a page may take to show a QR code or to work, and that a linked one may be without a connection.
START_PATIENCE, OFFLINE_PATIENCE = 90.0, 60.0
#: Seconds that an idle turn waits for an event: what is to be sent waits so long at most.
IDLE = 0.02
#: Seconds for which a QR code is shown as valid; WhatsApp changes the first after 60 and later ones after 20.
QR_LIFE = 60.0
#: Seconds in which takeovers are counted, and that one may take.
HOUR, TAKEOVER_PATIENCE = 3600.0, 10.0
#: How far beyond its limit the memory may go before it is renewed at once.
EXCESS = 1.25

log = structlog.get_logger()


class End(Enum):
    """Why a browser is not served any more."""

    STOP = "stop"  # the process was told to
    RENEW = "renew"  # closed in order, another one follows
    LOST = "lost"  # killed, another one follows
    FAILED = "failed"  # it came to neither a QR code nor WORKING
    FORGET = "forget"  # an operator unlinked it: another phone may be linked
    LOGGED_OUT = "logged_out"  # the phone unlinked it
    CONFLICT = "conflict"  # taken over elsewhere once too often
    BANNED = "banned"


@dataclass(slots=True)
class Limits:
    """What the owner keeps to."""

    memory_mb: float
    takeovers: int  # an hour


@dataclass(slots=True)
class Hooks:
    """What the owner needs of its session; all are called by its thread."""

    stopping: Callable[[], bool]
    working: Callable[[bool], None]  # from now on, or not any more
    idle: Callable[[], bool]  # whether nothing is in hand
    memory_mb: Callable[[Browser], float]
    commands: Callable[["Owner"], None]  # do those that are waiting
    locked: Callable[[], bool]  # whether the number is still ours alone


@dataclass(slots=True)
class Owner:
    """Serves one browser until it ends."""

    browser: Browser
    register: Register
    recorder: Recorder
    profile: Profile
    works: Sequence[Work]
    limits: Limits
    hooks: Hooks
    takeovers: list[float] = field(default_factory=list)  # when; they outlive the browser
    view: View = View.LOADING
    up: bool = False  # whether it came to a QR code or WORKING
    asked: End | None = None  # what a command, or WhatsApp itself, asked for
    why: str = "an operator asked for it"
    renew: str = ""  # why it is to be renewed when nothing is in hand
    health: Health | None = None
    _used: float = 0.0  # MB, when it was last measured
    _next_beat: float = 0.0
    _missed: int = 0
    _since: float = field(default_factory=time.monotonic)  # when the view began
    _unstored: list[PageEvent] = field(default_factory=list)
    _next_store: float = 0.0

    def serve(self) -> tuple[End, str]:
        """Serve it; returns why it ended, and the reason for people."""
        try:
            while True:
                if (end := self._turn()) is not None:
                    return end
        except PageLost as error:
            return End.LOST, error.reason
        finally:
            self._set_working(False)

    @property
    def silent(self) -> bool:
        """Whether the page did not answer when it was asked last."""
        return self._missed > 0

    def look_soon(self) -> None:
        """Have the next heartbeat come at once."""
        self._next_beat = 0.0

    def _turn(self) -> tuple[End, str] | None:
        if self.hooks.stopping():
            return End.STOP, "it was told to stop"
        if (lost := self._listen()) is not None:
            return End.LOST, lost
        self._store()
        self.hooks.commands(self)
        if self.asked is not None:
            return self.asked, self.why
        if time.monotonic() >= self._next_beat and (end := self._beat()) is not None:
            return end
        return self._work() if self.view is View.WORKING else None

    # --- Events --------------------------------------------------------------------------------------------------

    def _listen(self) -> str | None:
        """Take note of what the page told; returns why it is lost, if it is."""
        wait = IDLE
        while True:
            try:
                event = self.browser.events.get(timeout=wait) if wait else self.browser.events.get_nowait()
            except queue.Empty:
                return None
            wait = 0.0
            if isinstance(event, Lost):
                return event.reason
            self._unstored.append(event)
            if event.name.startswith(("conn.", "loader.", "bridge.")):
                self._hear(event)

    def _hear(self, event: PageEvent) -> None:
        self.look_soon()
        if event.name in ("bridge.loaded", "bridge.missed") and self.view is View.WORKING:
            self._set_working(False)  # and again at the next look: what was missed is asked for
            self._enter(Seen(View.LOADING))
        elif event.name == "bridge.error":
            log.warning("an event of the page could not be read", about=event.data)
        elif event.name == "conn.backend_event" and "banned" in str(event.data):
            self.asked, self.why = End.BANNED, f"WhatsApp has banned the number ({event.data})"

    def _store(self) -> None:
        """Store what was told, then let the page forget it. The database may be away: then it is kept."""
        if not self._unstored or time.monotonic() < self._next_store:
            return
        try:
            self.recorder.record(self._unstored)
        except AWAY as error:
            log.warning("events are kept until the database is back", events=len(self._unstored), reason=str(error))
            self._next_store = time.monotonic() + 1.0
            return
        last = self._unstored[-1]
        self._unstored = []
        self.browser.acknowledge(last.boot, last.seq)

    # --- Heartbeats ----------------------------------------------------------------------------------------------

    def _beat(self) -> tuple[End, str] | None:
        self._next_beat = time.monotonic() + (BEAT if self.view in (View.WORKING, View.SCAN) else SOON)
        try:
            self.health = self.browser.page.health(BEAT_DEADLINE)
        except (CallTimeout, CallFailed) as error:
            self._missed += 1
            self._next_beat = 0.0
            return (End.LOST, f"the page does not answer: {error}") if self._missed > MISSED else None
        self._missed = 0
        if not self.hooks.locked():
            return End.STOP, "another process has the number"
        end = self._judge(see(self.health, self.profile.linked))
        self._write_beat()
        return end or self._spare_memory()

    def _judge(self, seen: Seen) -> tuple[End, str] | None:
        if seen.view is not self.view:
            self._enter(seen)
        match seen.view:
            case View.LOGGED_OUT:
                return End.LOGGED_OUT, seen.reason or ""
            case View.BANNED:
                return End.BANNED, seen.reason or ""
            case View.CONFLICT:
                return self._take_over(seen.reason or "")
            case View.OUTDATED:
                self.renew = self.renew or seen.reason or ""
            case View.SCAN:
                self._show_qr()
            case View.LOADING if self._lasting(START_PATIENCE):
                return End.FAILED if not self.up else End.LOST, "the page did not get ready"
            case View.OFFLINE if self._lasting(OFFLINE_PATIENCE):
                return End.RENEW, seen.reason or ""
        return self._renew_if_idle()

    def _lasting(self, seconds: float) -> bool:
        return time.monotonic() - self._since > seconds

    def _enter(self, seen: Seen) -> None:
        """Another view from now on."""
        self.view, self._since = seen.view, time.monotonic()
        if seen.view is View.WORKING:
            self._start_working()
            return
        self._set_working(False)
        state = State.SCAN_QR_CODE if seen.view is View.SCAN else State.STARTING
        self.up = self.up or seen.view is View.SCAN
        if seen.view not in (View.LOGGED_OUT, View.BANNED):  # those are told when it ends
            self._change(state, seen.reason, "disconnected" if seen.view is View.OFFLINE else "")

    def _start_working(self) -> None:
        number = str(self.health.me if self.health else "").partition("@")[0].partition(":")[0]
        self.up = True
        self.profile.mark(number)
        self._change(State.WORKING, None, "ready", number or None)
        self._set_working(True)

    def _set_working(self, works: bool) -> None:
        self.hooks.working(works)

    def _change(self, state: State, reason: str | None, event: str = "", number: str | None = None) -> None:
        """Tell everybody; the database may be away, then the next heartbeat tells it."""
        try:
            self.register.change(state, reason, event, number)
        except AWAY as error:
            log.warning("the session's state cannot be told", state=str(state), reason=str(error))
            self.view = View.LOADING

    def _take_over(self, reason: str) -> tuple[End, str] | None:
        """Go on here, unless that was done too often; the page needs a moment for it."""
        now = time.monotonic()
        if self.takeovers and self.takeovers[-1] >= self._since and now - self.takeovers[-1] < TAKEOVER_PATIENCE:
            return None
        self.takeovers[:] = [at for at in self.takeovers if now - at < HOUR]
        if len(self.takeovers) >= self.limits.takeovers:
            return End.CONFLICT, f"{reason}, and it was taken back {len(self.takeovers)} times within an hour"
        self.takeovers.append(now)
        log.warning("taking the session back", reason=reason, times=len(self.takeovers))
        self.browser.page.call("__wa.takeOver")
        self._next_beat = now + SOON
        return None

    def _show_qr(self) -> None:
        text = self.browser.page.call("__wa.qr")
        if text is None:
            self._next_beat = min(self._next_beat, time.monotonic() + SOON)
            return
        try:
            self.register.show_qr(text, QR_LIFE)
        except AWAY as error:
            log.warning("the QR code cannot be shown", reason=str(error))

    def _write_beat(self) -> None:
        health = self.health
        versions = {"waJs": health.wa_js, "waWeb": health.wa_web} if health else {}
        known = {name: value for name, value in versions.items() if value}
        self._used = self.hooks.memory_mb(self.browser)
        try:
            self.register.beat(self.view is View.WORKING, self._used, known)
        except AWAY as error:
            log.warning("the heartbeat cannot be written", reason=str(error))

    # --- Renewal, and work ----------------------------------------------------------------------------------------

    def _spare_memory(self) -> tuple[End, str] | None:
        if self._used > EXCESS * self.limits.memory_mb:
            return End.RENEW, f"it uses {self._used:.0f} MB"
        if self._used > self.limits.memory_mb:
            self.renew = f"it uses {self._used:.0f} MB"
        return self._renew_if_idle()

    def _renew_if_idle(self) -> tuple[End, str] | None:
        return (End.RENEW, self.renew) if self.renew and self.hooks.idle() else None

    def _work(self) -> tuple[End, str] | None:
        try:
            if any(work.turn(self.browser.page) for work in self.works):
                return None
        except CallTimeout as error:
            log.warning("a call of the page took too long, looking how it is", reason=str(error))
            self.look_soon()
        return self._renew_if_idle()
