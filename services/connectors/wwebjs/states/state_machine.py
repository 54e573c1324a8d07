"""The state of a session as a machine that decides and does nothing itself: from page reports, events and memory.

All times are seconds of one monotonic clock. The browser loop has the clock, and carries out the actions.
"""

from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Any

from bisnesctl.backoff import Backoff
from services.connectors.wwebjs.browser.page_health import Health

#: The time between two looks at a page that works or shows a QR code.
STEADY_LOOK_SECONDS = 10.0
#: The time between two looks at a page on its way to another state.
CHANGING_LOOK_SECONDS = 0.5
#: The shortest time between two looks.
MIN_LOOK_SECONDS = 0.1
#: Consecutive looks that the page may leave unanswered.
MAX_MISSED_LOOKS = 1
#: Consecutive looks at which a linked page must report that it is no longer linked, until we believe it.
UNLINKED_LOOKS = 3
#: How long a page may take to become ready.
LOADING_TIMEOUT_SECONDS = 90.0
#: How long a newly linked page may take to fetch the phone's history.
SYNCING_TIMEOUT_SECONDS = 900.0
#: How long a page may be without a connection to WhatsApp.
OFFLINE_TIMEOUT_SECONDS = 60.0
#: The pauses until a page that could not be reached is opened again.
OPEN_BACKOFF = Backoff(first_seconds=1.0, growth=2, longest_seconds=10.0)
#: Consecutive attempts of one browser to open the page.
MAX_OPEN_ATTEMPTS = 20
#: The time after which a link survives a SIGKILL: Chromium writes localStorage to disk within six seconds.
LINK_DURABLE_SECONDS = 8.0
#: The period in which takeovers are counted, and in which a new version of WhatsApp Web causes one renewal at most.
PERIOD_SECONDS = 3600.0
#: How long a takeover may take.
TAKEOVER_TIMEOUT_SECONDS = 10.0
#: The multiple of the memory limit at which the browser is renewed even if messages are in hand.
MEMORY_EXCESS = 1.25
#: The socket state of a page that no longer shows a QR code because nobody scanned it.
_QR_EXPIRED = "UNPAIRED_IDLE"
#: The socket state of a page that is connected to WhatsApp.
_CONNECTED = "CONNECTED"
#: The stream modes in which WhatsApp refuses the account permanently (Stream.mode).
_BANNED_MODES = {
    "TOS_BLOCK": "WhatsApp blocked the account, by its terms of service",
    "SMB_TOS_BLOCK": "WhatsApp blocked the account, by its terms for businesses",
}


# --- The page ---------------------------------------------------------------------------------------------------------


class PageState(Enum):
    """The state of the page."""

    UNREACHABLE = "unreachable"  # its server cannot be reached
    LOADING = "loading"
    SCAN = "scan"  # it shows a QR code
    SYNCING = "syncing"  # a phone was just linked, its history is being fetched
    WORKING = "working"
    OFFLINE = "offline"  # linked, but without a connection to WhatsApp
    CONFLICT = "conflict"  # WhatsApp Web is open in another browser
    OUTDATED = "outdated"  # WhatsApp wants the page to be reloaded
    LOGGED_OUT = "logged_out"  # no longer linked
    BANNED = "banned"


@dataclass(frozen=True, slots=True)
class Seen:
    """The state of the page, with a readable reason if the state alone does not explain it."""

    state: PageState
    reason: str | None = None


def see(health: Health, linked: bool) -> Seen:
    """The state of a page with this report. `linked`: whether its profile was linked to a phone before."""
    if health.mode in _BANNED_MODES:
        return Seen(PageState.BANNED, _BANNED_MODES[health.mode])
    if health.mode == "CONFLICT" or health.socket == "CONFLICT":
        return Seen(PageState.CONFLICT, "WhatsApp Web is open in another browser")
    if health.mode == "DEPRECATED_VERSION":
        return Seen(PageState.OUTDATED, "WhatsApp wants its page to be reloaded")
    if not health.full or health.authenticated is None:
        return Seen(PageState.LOADING)
    if not health.authenticated:
        unlinked = Seen(PageState.LOGGED_OUT, "the phone unlinked it: unblock it, then scan the new QR code")
        return unlinked if linked else Seen(PageState.SCAN)
    if health.mode == "SYNCING":
        return Seen(PageState.SYNCING, "it synchronises with the phone")
    if health.mode == "PROXYBLOCK":
        return Seen(PageState.OFFLINE, "WhatsApp refuses this network (PROXYBLOCK)")
    if health.socket != _CONNECTED or health.mode == "OFFLINE":
        return Seen(PageState.OFFLINE, "no connection to WhatsApp")
    return Seen(PageState.WORKING) if health.mode == "MAIN" else Seen(PageState.LOADING)


# --- The session ------------------------------------------------------------------------------------------------------


class State(StrEnum):
    """The state of a session, as front-ends know it."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    SCAN_QR_CODE = "SCAN_QR_CODE"
    WORKING = "WORKING"
    FAILED = "FAILED"


class End(Enum):
    """Why the loop of a browser ended."""

    STOP = "stop"  # the process is to stop
    ELSEWHERE = "elsewhere"  # another process serves the bot
    RENEW = "renew"  # closed cleanly, another browser follows
    LOST = "lost"  # killed, another browser follows
    FAILED = "failed"  # it reached neither a QR code nor WORKING
    FORGET = "forget"  # an operator unlinked it: another phone may be linked
    LOGGED_OUT = "logged_out"  # the phone unlinked it
    WRONG_NUMBER = "wrong_number"  # the linked phone is not the one that the bot is bound to
    CONFLICT = "conflict"  # other browsers took the session over too often
    BANNED = "banned"


class Do(Enum):
    """An action on the page."""

    REST = auto()  # do no work from now on
    WORK = auto()  # work from now on, and catch up on missed messages
    SHOW_QR = auto()
    REFRESH_QR = auto()
    TAKE_OVER = auto()
    MARK_LINKED = auto()  # the profile keeps the link from now on, even after a SIGKILL


@dataclass(frozen=True, slots=True)
class Show:
    """Publish the state of the session."""

    state: State
    reason: str | None = None
    event: str = ""  # the event for the manager; empty: the name of the state


@dataclass(frozen=True, slots=True)
class Finish:
    """End the loop of this browser."""

    end: End
    reason: str


Action = Do | Show | Finish


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a session."""

    memory_mb: float
    takeovers: int  # per hour


@dataclass(slots=True)
class Past:
    """The part of the state that outlives a browser."""

    takeovers: list[float] = field(default_factory=list)  # their times
    updated: float | None = None  # the time of the last renewal for a newer version of WhatsApp Web


@dataclass(slots=True)
class StateMachine:
    """The state of one browser from its launch to its end. Do not use it after a `Finish`."""

    limits: Limits
    past: Past
    began: float  # the time of its launch
    bound: str | None = None  # digits of the only number that may be linked; None: any
    page: PageState = PageState.LOADING
    opened: bool = False  # whether the page was opened, so that it can be looked at
    up_at: float | None = None  # when it reached a QR code or WORKING, or lacked only the network for that
    due: float = field(init=False)  # when to open the page, or to look at it again
    _since: float = field(init=False)  # when the state of the page began
    _looked: float = float("-inf")
    _failed_opens: int = 0  # consecutive
    _missed: int = 0  # consecutive looks without an answer
    _unlinked: int = 0  # consecutive looks at which it was no longer linked
    _worked: bool = False
    _identified: bool = False  # whether the page reported the number that the bot is bound to
    _renewal: str = ""  # why it is to be renewed once no message is in hand

    def __post_init__(self) -> None:
        """The page is to be opened at once."""
        self.due = self.began
        self._since = self.began

    @property
    def works(self) -> bool:
        """Whether the session is WORKING."""
        return self.page is PageState.WORKING

    @property
    def identified(self) -> bool:
        """Whether the page's events belong to the number that the bot is bound to."""
        return self.bound is None or self._identified

    @property
    def silent(self) -> bool:
        """Whether the page did not answer the last look."""
        return self._missed > 0

    # --- Events, memory, idleness ---------------------------------------------------------------------------------

    def hear(self, name: str, data: Any, now: float) -> list[Action]:
        """An event in the page."""
        if not name.startswith(("conn.", "loader.", "bridge.")):
            return []
        self.look_soon(now)
        if name == "conn.backend_event" and "banned" in str(data):
            return [Finish(End.BANNED, f"WhatsApp has banned the number ({data})")]
        if name == "bridge.missed" and self.works:
            return [Do.REST, Do.WORK]
        if name == "bridge.loaded" and self.works:
            return self._enter(Seen(PageState.LOADING, "the page was reloaded"), now)
        return []

    def look_soon(self, now: float) -> None:
        """Look soon, because something may have changed."""
        self.due = min(self.due, max(now, self._looked + MIN_LOOK_SECONDS))

    def renew(self, reason: str) -> None:
        """Renew the browser once no message is in hand."""
        self._renewal = self._renewal or reason

    def note_memory(self, memory_mb: float) -> list[Action]:
        """The session, with all its processes, uses this much memory."""
        reason = f"it uses {memory_mb:.0f} MB, and its limit is {self.limits.memory_mb:.0f} MB"
        if memory_mb > MEMORY_EXCESS * self.limits.memory_mb:
            return [Finish(End.RENEW, reason)]
        if memory_mb > self.limits.memory_mb:
            self.renew(reason)
        return []

    def note_idle(self) -> list[Action]:
        """No message is in hand."""
        return [Finish(End.RENEW, self._renewal)] if self._renewal else []

    # --- Opening the page -----------------------------------------------------------------------------------------

    def open(self, refusal: str | None, now: float) -> list[Action]:
        """The page was opened, or could not be reached: `refusal` is the reason.

        That is neither the fault of the bot nor of its browser, so attempts continue for as long as it takes, with
        another browser now and then.
        """
        self.opened = refusal is None
        self.due = now
        if refusal is None:
            self.page = PageState.LOADING
            self._since = now
            return []
        self.page = PageState.UNREACHABLE
        self._come_up(now)
        self._failed_opens += 1
        self.due += OPEN_BACKOFF.pause(self._failed_opens)
        reason = f"WhatsApp Web cannot be reached: {refusal}"
        if self._failed_opens >= MAX_OPEN_ATTEMPTS:
            return [Finish(End.RENEW, reason)]
        return [Show(State.STARTING, reason, "disconnected")]

    # --- Looks at the page ----------------------------------------------------------------------------------------

    def look(self, health: Health | None, linked: bool, now: float) -> list[Action]:
        """A look at the page: its report, or None if it did not answer. `linked`: its profile was linked to a phone."""
        self._looked = now
        if health is None:
            return self._miss(now)
        self._missed = 0
        if (foreign := self._identify(health)) is not None:
            return [foreign]
        seen = see(health, linked or self._worked)
        if seen.state is PageState.WORKING and not self.identified:
            seen = Seen(PageState.LOADING, "it does not report its number yet")
        if seen.state is PageState.LOGGED_OUT and not self._confirm_unlinked():
            seen = Seen(PageState.LOADING, "it reports that no phone is linked to it")
        elif seen.state is not PageState.LOGGED_OUT:
            self._unlinked = 0
        actions = [] if seen.state is self.page else self._enter(seen, now)
        actions += self._stay(seen, health, linked, now)
        steady = self.page in (PageState.WORKING, PageState.SCAN)
        self.due = now + (STEADY_LOOK_SECONDS if steady else CHANGING_LOOK_SECONDS)
        return actions

    def _identify(self, health: Health) -> Finish | None:
        """Note the linked number as soon as the page reports it; the end if the bot is bound to another number."""
        if not health.authenticated or health.number is None:
            self._identified = self._identified and health.authenticated is not False
            return None
        if self.bound not in (None, health.number):
            return Finish(End.WRONG_NUMBER, _wrong_number(str(self.bound), health.number))
        self.bound = health.number
        self._identified = True
        return None

    def _miss(self, now: float) -> list[Action]:
        self._missed += 1
        self.due = now
        return [Finish(End.LOST, "the page does not answer")] if self._missed > MAX_MISSED_LOOKS else []

    def _confirm_unlinked(self) -> bool:
        self._unlinked += 1
        return self._unlinked >= UNLINKED_LOOKS

    def _enter(self, seen: Seen, now: float) -> list[Action]:
        """The page is in another state from now on."""
        actions: list[Action] = [Do.REST] if self.works else []
        self.page = seen.state
        self._since = now
        match seen.state:
            case PageState.WORKING:
                self._worked = True
                self._come_up(now)
                return [*actions, Show(State.WORKING, None, "ready"), Do.WORK]
            case PageState.SCAN:
                self._come_up(now)
                return [*actions, Show(State.SCAN_QR_CODE)]
            case PageState.LOGGED_OUT | PageState.BANNED:  # only the end is published
                return actions
            case PageState.OFFLINE:  # the fault of a network, not of the browser
                self._come_up(now)
        event = "disconnected" if seen.state in (PageState.OFFLINE, PageState.CONFLICT) else ""
        return [*actions, Show(State.STARTING, seen.reason, event)]

    def _come_up(self, now: float) -> None:
        self.up_at = now if self.up_at is None else self.up_at

    def _stay(self, seen: Seen, health: Health, linked: bool, now: float) -> list[Action]:
        """The actions that the state of the page needs at each look."""
        reason = seen.reason or ""
        match seen.state:
            case PageState.WORKING:
                return self._keep_working(health, linked, now)
            case PageState.SCAN:
                return [Do.REFRESH_QR if health.socket == _QR_EXPIRED else Do.SHOW_QR]
            case PageState.LOGGED_OUT:
                return [Finish(End.LOGGED_OUT, reason)]
            case PageState.BANNED:
                return [Finish(End.BANNED, reason)]
            case PageState.CONFLICT:
                return self._take_over(reason, now)
            case PageState.OUTDATED:
                self.renew(reason)
                return []
        return self._check_timeout(reason, now)

    def _keep_working(self, health: Health, linked: bool, now: float) -> list[Action]:
        updated = self.past.updated
        if health.needs_update and (updated is None or now - updated >= PERIOD_SECONDS):
            self.past.updated = now
            self.renew("WhatsApp offers a newer version of its page")
        return [Do.MARK_LINKED] if not linked and now - self._since >= LINK_DURABLE_SECONDS else []

    def _check_timeout(self, reason: str, now: float) -> list[Action]:
        timeouts = {PageState.SYNCING: SYNCING_TIMEOUT_SECONDS, PageState.OFFLINE: OFFLINE_TIMEOUT_SECONDS}
        if now - self._since <= timeouts.get(self.page, LOADING_TIMEOUT_SECONDS):
            return []
        if self.page is PageState.OFFLINE:
            return [Finish(End.RENEW, reason)]
        return [Finish(End.FAILED if self.up_at is None else End.LOST, "the page did not get ready")]

    def _take_over(self, reason: str, now: float) -> list[Action]:
        """Take the session over, unless that happened too often. The page needs a moment for it."""
        lately = [at for at in self.past.takeovers if now - at < PERIOD_SECONDS]
        self.past.takeovers = lately
        if lately and lately[-1] >= self._since and now - lately[-1] < TAKEOVER_TIMEOUT_SECONDS:
            return []
        if len(lately) >= self.limits.takeovers:
            return [Finish(End.CONFLICT, f"{reason}, and it was taken over {len(lately)} times within an hour")]
        lately.append(now)
        return [Do.TAKE_OVER]


def _wrong_number(bound: str, linked: str) -> str:
    return (
        f"the number +{linked} was linked, but this bot is bound to +{bound}: unblock it and link +{bound}, or let it "
        "send from another number: `bisnesctl bots unblock … --new-number`"
    )
