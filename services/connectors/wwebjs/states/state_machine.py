"""What a session does about what it sees, hears and is told: a state machine that decides, and does nothing itself.

All times are seconds of one clock that never goes back; whoever owns the browser has the clock, and acts.
"""

from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Any

from services.connectors.wwebjs.browser.page import Health
from services.connectors.wwebjs.states.page_state import PageState, Seen, see

#: Seconds between two looks at a page that works or shows a QR code, at one that is on its way from one to the other,
#: and between any two, however much happens.
BEAT, SOON, EAGER = 10.0, 0.5, 0.1
#: Looks in a row that may go unanswered.
MISSED = 1
#: Looks in a row at which a linked page must say that it is linked no more: its link is given up then.
CONVINCED = 3
#: Seconds that a page may be in a view on its way: `START` to become ready, `SYNC` to fetch the history of a phone that
#: was linked just now, `OFFLINE` without a connection to WhatsApp.
START, SYNC, OFFLINE = 90.0, 900.0, 60.0
#: Seconds until a page that could not be reached is opened again: the first pause, by what each further one is longer,
#: and the longest.
REOPEN, GROWTH, LONGEST = 1.0, 2, 10.0
#: Times in a row that one browser tries to open it.
OPENINGS = 20
#: Seconds after which a link survives a SIGKILL: Chromium writes localStorage down within six.
DURABLE = 8.0
#: Seconds in which takeovers, and renewals for a newer version, are counted; and that a takeover may take.
HOUR, TAKEOVER = 3600.0, 10.0
#: How far beyond its limit the memory may go before the browser is renewed whatever it has in hand.
EXCESS = 1.25
#: What the page calls a connection that shows no QR code any more, since nobody scanned one.
_IDLE = "UNPAIRED_IDLE"


class State(StrEnum):
    """How a session is, in the words that front-ends know."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    SCAN_QR_CODE = "SCAN_QR_CODE"
    WORKING = "WORKING"
    FAILED = "FAILED"


class End(Enum):
    """Why a browser is not served any more."""

    STOP = "stop"  # the process was told to
    TAKEN = "taken"  # another process has the number
    RENEW = "renew"  # closed in order, another one follows
    LOST = "lost"  # killed, another one follows
    FAILED = "failed"  # it came to neither a QR code nor WORKING
    FORGET = "forget"  # an operator unlinked it: another phone may be linked
    LOGGED_OUT = "logged_out"  # the phone unlinked it
    WRONG_NUMBER = "wrong_number"  # another phone was linked than the one that it is bound to
    CONFLICT = "conflict"  # taken over elsewhere once too often
    BANNED = "banned"


class Do(Enum):
    """What is to be done with the page."""

    REST = auto()  # no work from now on
    WORK = auto()  # work from now on, and ask for what was missed
    SHOW_QR = auto()
    REFRESH_QR = auto()
    TAKE_OVER = auto()
    MARK_LINKED = auto()  # its profile keeps the link, whatever happens


@dataclass(frozen=True, slots=True)
class Show:
    """Tell everybody how the session is."""

    state: State
    reason: str | None = None
    event: str = ""  # what the manager is told; empty: the state's name


@dataclass(frozen=True, slots=True)
class Finish:
    """Serve this browser no more."""

    end: End
    reason: str


Action = Do | Show | Finish


@dataclass(frozen=True, slots=True)
class Limits:
    """What a session keeps to."""

    memory_mb: float
    takeovers: int  # an hour


@dataclass(slots=True)
class Past:
    """What is remembered from one browser to the next."""

    takeovers: list[float] = field(default_factory=list)  # when
    updated: float | None = None  # when it was last renewed for a newer version of WhatsApp Web


@dataclass(slots=True)
class StateMachine:
    """One browser's way from its launch to its end. After a `Finish` it must not be asked any more."""

    limits: Limits
    past: Past
    began: float  # when it was launched
    bound: str | None = None  # digits of the only number that may be linked; None: any, until one is
    view: PageState = PageState.LOADING
    opened: bool = False  # whether the page was, so that it can be looked at
    up_at: float | None = None  # when it came to a QR code or WORKING, or only a network was missing for that
    due: float = field(init=False)  # when to open the page, or to look at it, next
    _since: float = field(init=False)  # when the view began
    _looked: float = float("-inf")
    _refused: int = 0  # times in a row that it could not be opened
    _missed: int = 0
    _unlinked: int = 0  # looks in a row at which it was linked no more
    _worked: bool = False
    _identified: bool = False  # whether the page said that it is of the number that it is bound to
    _renewal: str = ""  # why it is to be renewed once nothing is in hand

    def __post_init__(self) -> None:
        """It begins at once."""
        self.due = self._since = self.began

    @property
    def works(self) -> bool:
        """Whether it is WORKING."""
        return self.view is PageState.WORKING

    @property
    def identified(self) -> bool:
        """Whether what the page tells is of the number that it is bound to."""
        return self.bound is None or self._identified

    @property
    def silent(self) -> bool:
        """Whether the page did not answer when it was looked at last."""
        return self._missed > 0

    # --- What happens ---------------------------------------------------------------------------------------------

    def hear(self, name: str, data: Any, now: float) -> list[Action]:
        """The page tells that something happened."""
        if not name.startswith(("conn.", "loader.", "bridge.")):
            return []
        self.look_soon(now)
        if name == "conn.backend_event" and "banned" in str(data):
            return [Finish(End.BANNED, f"WhatsApp has banned the number ({data})")]
        if name == "bridge.missed" and self.works:
            return [Do.REST, Do.WORK]
        if name == "bridge.loaded" and self.works:
            return self._enter(Seen(PageState.LOADING, "the page was loaded anew"), now)
        return []

    def look_soon(self, now: float) -> None:
        """Something may have changed."""
        self.due = min(self.due, max(now, self._looked + EAGER))

    def renew(self, reason: str) -> None:
        """It is to be renewed once nothing is in hand."""
        self._renewal = self._renewal or reason

    def weigh(self, memory_mb: float) -> list[Action]:
        """So much memory does it use, with everything around it."""
        reason = f"it uses {memory_mb:.0f} MB, of {self.limits.memory_mb:.0f} that it may use"
        if memory_mb > EXCESS * self.limits.memory_mb:
            return [Finish(End.RENEW, reason)]
        if memory_mb > self.limits.memory_mb:
            self.renew(reason)
        return []

    def rest(self) -> list[Action]:
        """Nothing is in hand."""
        return [Finish(End.RENEW, self._renewal)] if self._renewal else []

    # --- Opening the page -----------------------------------------------------------------------------------------

    def open(self, refusal: str | None, now: float) -> list[Action]:
        """The page was opened, or could not be reached, and why.

        That says nothing against the number or its browser: it is tried for as long as it takes, now and then by
        another browser.
        """
        self.opened, self.due = refusal is None, now
        if refusal is None:
            self.view, self._since = PageState.LOADING, now
            return []
        self.view = PageState.UNREACHABLE
        self._come_up(now)
        self.due += min(REOPEN * GROWTH ** min(self._refused, 8), LONGEST)
        self._refused += 1
        reason = f"WhatsApp Web cannot be reached: {refusal}"
        if self._refused >= OPENINGS:
            return [Finish(End.RENEW, reason)]
        return [Show(State.STARTING, reason, "disconnected")]

    # --- What is seen ---------------------------------------------------------------------------------------------

    def look(self, health: Health | None, linked: bool, now: float) -> list[Action]:
        """The page was looked at: so it is, or it did not answer. `linked`: its profile was linked to a phone."""
        self._looked = now
        if health is None:
            return self._miss(now)
        self._missed = 0
        if (foreign := self._identify(health)) is not None:
            return [foreign]
        seen = see(health, linked or self._worked)
        if seen.view is PageState.WORKING and not self.identified:
            seen = Seen(PageState.LOADING, "it does not say yet which number is linked to it")
        if seen.view is PageState.LOGGED_OUT and not self._is_convinced():
            seen = Seen(PageState.LOADING, "it says that no phone is linked to it")
        elif seen.view is not PageState.LOGGED_OUT:
            self._unlinked = 0
        actions = [] if seen.view is self.view else self._enter(seen, now)
        actions += self._stay(seen, health, linked, now)
        self.due = now + (BEAT if self.view in (PageState.WORKING, PageState.SCAN) else SOON)
        return actions

    def _identify(self, health: Health) -> Finish | None:
        """Whose page it is, as soon as it says so; the end where that is another number than the bot's."""
        if not health.authenticated or health.number is None:
            self._identified = self._identified and health.authenticated is not False
            return None
        if self.bound not in (None, health.number):
            return Finish(End.WRONG_NUMBER, _wrong_number(str(self.bound), health.number))
        self.bound, self._identified = health.number, True
        return None

    def _miss(self, now: float) -> list[Action]:
        self._missed += 1
        self.due = now
        return [Finish(End.LOST, "the page does not answer")] if self._missed > MISSED else []

    def _is_convinced(self) -> bool:
        self._unlinked += 1
        return self._unlinked >= CONVINCED

    def _enter(self, seen: Seen, now: float) -> list[Action]:
        """Another view from now on."""
        actions: list[Action] = [Do.REST] if self.works else []
        self.view, self._since = seen.view, now
        match seen.view:
            case PageState.WORKING:
                self._worked = True
                self._come_up(now)
                return [*actions, Show(State.WORKING, None, "ready"), Do.WORK]
            case PageState.SCAN:
                self._come_up(now)
                return [*actions, Show(State.SCAN_QR_CODE)]
            case PageState.LOGGED_OUT | PageState.BANNED:  # their end is told
                return actions
            case PageState.OFFLINE:  # a network's fault, and none of the browser's
                self._come_up(now)
        event = "disconnected" if seen.view in (PageState.OFFLINE, PageState.CONFLICT) else ""
        return [*actions, Show(State.STARTING, seen.reason, event)]

    def _come_up(self, now: float) -> None:
        self.up_at = now if self.up_at is None else self.up_at

    def _stay(self, seen: Seen, health: Health, linked: bool, now: float) -> list[Action]:
        """What its view asks for, each time it is seen."""
        reason = seen.reason or ""
        match seen.view:
            case PageState.WORKING:
                return self._keep_working(health, linked, now)
            case PageState.SCAN:
                return [Do.REFRESH_QR if health.socket == _IDLE else Do.SHOW_QR]
            case PageState.LOGGED_OUT:
                return [Finish(End.LOGGED_OUT, reason)]
            case PageState.BANNED:
                return [Finish(End.BANNED, reason)]
            case PageState.CONFLICT:
                return self._take_over(reason, now)
            case PageState.OUTDATED:
                self.renew(reason)
                return []
        return self._be_patient(reason, now)

    def _keep_working(self, health: Health, linked: bool, now: float) -> list[Action]:
        updated = self.past.updated
        if health.needs_update and (updated is None or now - updated >= HOUR):
            self.past.updated = now
            self.renew("WhatsApp offers a newer version of its page")
        return [Do.MARK_LINKED] if not linked and now - self._since >= DURABLE else []

    def _be_patient(self, reason: str, now: float) -> list[Action]:
        patience = {PageState.SYNCING: SYNC, PageState.OFFLINE: OFFLINE}.get(self.view, START)
        if now - self._since <= patience:
            return []
        if self.view is PageState.OFFLINE:
            return [Finish(End.RENEW, reason)]
        return [Finish(End.FAILED if self.up_at is None else End.LOST, "the page did not get ready")]

    def _take_over(self, reason: str, now: float) -> list[Action]:
        """Go on here, unless that was done too often; the page needs a moment for it."""
        lately = [at for at in self.past.takeovers if now - at < HOUR]
        self.past.takeovers = lately
        if lately and lately[-1] >= self._since and now - lately[-1] < TAKEOVER:
            return []
        if len(lately) >= self.limits.takeovers:
            return [Finish(End.CONFLICT, f"{reason}, and it was taken back {len(lately)} times within an hour")]
        lately.append(now)
        return [Do.TAKE_OVER]


def _wrong_number(bound: str, linked: str) -> str:
    return (
        f"the number +{linked} was linked, but this bot is bound to +{bound}: unblock it and link +{bound}, or let it "
        "send from another number: `bisnesctl bots unblock … --new-number`"
    )
