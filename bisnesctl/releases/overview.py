"""The releases of a home as `bisnesctl release list` shows them."""

import sys
from dataclasses import dataclass
from pathlib import Path

from bisnesctl.errors import BisnesError, UsageError
from bisnesctl.processes import switch_records
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.switch_records import SwitchRecord
from bisnesctl.releases import programs
from bisnesctl.releases.live import find_checkout
from bisnesctl.releases.store import CHECKOUT, InstalledRelease, State, Store


@dataclass(frozen=True)
class ListedRelease:
    """One release of the list."""

    #: 0: a checkout.
    number: int
    version: str
    #: The beginning of the git revision; empty if it is not known.
    revision: str
    #: The path or version that it was installed from; of a checkout its folder.
    source: str
    #: When it was installed, in seconds since the epoch; None: a checkout.
    installed_at: float | None
    #: By whom.
    installed_by: str
    #: Bytes on the disk; None: a checkout.
    size: int | None
    #: current, previous, failed, good (it ran once), ready (it never ran), on trial.
    state: str
    #: Why it failed, or what is done to it.
    reason: str
    #: The processes that run it now.
    processes: list[str]
    #: The command that makes it current; empty if it is.
    command: str


@dataclass(frozen=True)
class ReleaseOverview:
    """All releases, and a switch that is under way or was interrupted."""

    home: Path
    releases: list[ListedRelease]
    #: Folders whose installation was interrupted.
    unfinished: list[str]
    switch: SwitchRecord | None


def look(deployment: Deployment) -> ReleaseOverview:
    """The releases of a deployment, the oldest first."""
    store = Store(deployment.settings.home)
    found, state = store.installed(), store.state()
    checkout = _checkout(deployment, store)
    switch = switch_records.read(store.home)
    every = [*([checkout] if checkout else []), *found]
    users = _users(deployment, every)
    rows = [_row(store, state, each, switch, users.get(each.number, [])) for each in every]
    unfinished = [] if store.is_locked() else [str(each) for each in store.unfinished()]
    return ReleaseOverview(store.home, rows, unfinished, switch)


def _checkout(deployment: Deployment, store: Store) -> InstalledRelease | None:
    """The checkout that runs, or that ran before the first release."""
    try:
        return store.get(CHECKOUT)
    except UsageError:
        pass
    try:
        return None if store.current() else find_checkout(deployment, store, Path(sys.prefix))
    except BisnesError:
        return None


def _users(deployment: Deployment, releases: list[InstalledRelease]) -> dict[int, list[str]]:
    """The names of the processes that run each release."""
    found: dict[int, list[str]] = {}
    folders = {each.folder: each.number for each in releases}
    pids = {each.name: each.pid for each in deployment.processes().values() if each.active}
    supervisor = deployment.supervisor_pid()
    for name, pid in {**pids, **({"supervisord": supervisor} if supervisor else {})}.items():
        folder = programs.folder_of(pid, folders)
        if folder is not None:
            found.setdefault(folders[folder], []).append(name)
    return {number: sorted(names) for number, names in found.items()}


def _row(
    store: Store, state: State, each: InstalledRelease, switch: SwitchRecord | None, processes: list[str]
) -> ListedRelease:
    status, reason = _state(store, state, each, switch)
    is_checkout = each.number == CHECKOUT
    return ListedRelease(
        number=each.number,
        version=each.version,
        revision=each.revision,
        source=str(each.folder.parent) if is_checkout else each.source,
        installed_at=None if is_checkout else each.at,
        installed_by=each.by,
        size=None if is_checkout else each.size,
        state=status,
        reason=reason,
        processes=processes,
        command="" if status == "current" else f"bisnesctl release switch {each.number}",
    )


def _state(store: Store, state: State, each: InstalledRelease, switch: SwitchRecord | None) -> tuple[str, str]:
    previous = store.previous()
    if each.number == store.current():
        return "current", ""
    if switch is not None and each.number == switch.target:
        return "on trial", switch.stage.value
    if state.has_failed(each.number):
        return "failed", state.trials[each.number].reason
    if previous is not None and each.number == previous.number:
        return "previous", ""
    return ("good", "") if each.number in state.trials or each.number == CHECKOUT else ("ready", "")


def is_in_place(found: ReleaseOverview) -> bool:
    """Whether a checkout runs in place, without releases."""
    return all(each.number == CHECKOUT for each in found.releases)
