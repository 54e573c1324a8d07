"""Signing in: the check of name, password and one-time code, and the pause after failures.

Failures are counted by name and address. After a few in a row, this address must wait for this name, longer each time.
Many failures of all addresses together stop every address, which `bisnesctl users unlock` ends. An unknown name is
answered like a wrong password, after the same time.
"""

import math
import time

from bisnesctl.errors import BisnesError, UsageError
from bisnesctl.people import one_time_codes, passwords
from bisnesctl.people.store import PeopleStore, normal_name

#: Failures in a row of one address that cost no pause.
FREE_FAILURES = 4
#: Failures of all addresses for one name, after which all must wait.
MAX_FAILURES = 50
#: Seconds of the first pause; each further failure doubles it.
FIRST_PAUSE_SECONDS = 30.0
#: Seconds of a pause, at most. Failures are forgotten after that time.
MAX_PAUSE_SECONDS = 900.0


class Refused(BisnesError):
    """The sign-in was refused."""

    def __init__(self, wait_seconds: float = 0.0, needs_code: bool = False) -> None:
        """`wait_seconds`: before the next attempt. `needs_code`: the password was right, the one-time code was not."""
        super().__init__()
        self.wait_seconds, self.needs_code = wait_seconds, needs_code


def sign_in(store: PeopleStore, name: str, password: str, code: str, address: str, agent: str) -> str:
    """Signs a person in; returns the token of the browser. Raises `Refused`, `Unavailable`."""
    try:
        known = normal_name(name)
    except UsageError:
        known = ""
    if (wait := pause(store.failures(known), address)) > 0:
        raise Refused(wait)
    found = store.secrets_of(known)
    is_right = passwords.verify(password, (found and found.password) or passwords.NOBODY)
    if found is None or found.password is None or not is_right:
        raise _failure(store, known, address)
    if found.code_secret is not None:
        if not code.strip():
            raise Refused(needs_code=True)
        period = one_time_codes.period_of(found.code_secret, code)
        if period is None or not store.use_code(known, period):
            raise _failure(store, known, address, needs_code=True)
    store.forget_failures(known, address)
    return store.begin(known, address, agent)


def _failure(store: PeopleStore, name: str, address: str, needs_code: bool = False) -> Refused:
    store.note_failure(name, address, MAX_PAUSE_SECONDS)
    return Refused(pause(store.failures(name), address), needs_code)


def pause(failures: dict[str, tuple[int, float]], address: str, now: float | None = None) -> float:
    """Seconds that an address must wait before it may try again. `failures`: as `PeopleStore.failures` has them."""
    moment = time.time() if now is None else now
    count, last = failures.get(address, (0, 0.0))
    total, latest = sum(each for each, _ in failures.values()), max((at for _, at in failures.values()), default=0.0)
    own = 0.0 if count <= FREE_FAILURES else last + _length(count - FREE_FAILURES) - moment
    common = 0.0 if total < MAX_FAILURES else latest + MAX_PAUSE_SECONDS - moment
    return max(0.0, own, common)


def _length(failures: int) -> float:
    return min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * math.pow(2, min(failures - 1, 10)))
