"""The actions of `bisnesctl release` on a deployment. Each settles a switch first that was interrupted."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bisnesctl.errors import BisnesError, CannotWrite, Conflict, UsageError
from bisnesctl.formatting import listed
from bisnesctl.host import disk
from bisnesctl.processes import switch_records
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.render import SESSIONS, SUPERVISORD_CONF
from bisnesctl.processes.switch_records import SwitchRecord
from bisnesctl.release import RECORD
from bisnesctl.releases import checks, programs
from bisnesctl.releases.install import install, remove_unfinished
from bisnesctl.releases.live import LiveSteps, find_checkout, tolerant
from bisnesctl.releases.programs import Report
from bisnesctl.releases.store import CHECKOUT, InstalledRelease, Store
from bisnesctl.releases.switch import settle, switch


def add(deployment: Deployment, source: str, extras: Sequence[str], report: Report) -> InstalledRelease:
    """Installs a release beside the others. Raises as `install` does, `Conflict` while another command is at work."""
    store = Store(deployment.settings.home)
    with store.lock():
        settle_interrupted(deployment, store, report)
        return install(store, source, extras, report)


def switch_to(deployment: Deployment, number: int, watch_seconds: float, report: Report) -> InstalledRelease:
    """Makes a release current and runs it. Raises `UsageError` for an unknown one, otherwise as `switch` does."""
    store = Store(deployment.settings.home)
    with store.lock():
        settle_interrupted(deployment, store, report)
        target = store.get(number)
        checks.refuse_rollout(deployment)
        _switch(deployment, store, target, watch_seconds, report)
    return target


def roll_back(deployment: Deployment, watch_seconds: float, report: Report) -> InstalledRelease:
    """Returns to the previous good release. Raises `UsageError` if there is none, otherwise as `switch` does."""
    store = Store(deployment.settings.home)
    with store.lock():
        settle_interrupted(deployment, store, report)
        target = store.previous()
        if target is None:
            raise UsageError(
                "no good release ran before the current one: `bisnesctl release list` shows what can be switched to"
            )
        _switch(deployment, store, target, watch_seconds, report)
    return target


def finish_interrupted(deployment: Deployment, report: Report) -> bool:
    """Finishes or undoes a switch that was interrupted. Returns whether there was one."""
    store = Store(deployment.settings.home)
    if switch_records.read(store.home) is None:
        return False
    with store.lock():
        return settle_interrupted(deployment, store, report)


def settle_interrupted(deployment: Deployment, store: Store, report: Report) -> bool:
    """The same for a caller that holds the lock. Raises `Conflict` while that switch is under way."""
    record = switch_records.read(store.home)
    if record is None:
        return False
    switch_records.refuse_others(store.home)
    report(f"`{record.command}` was interrupted while it was {record.stage}: putting that right")
    steps = LiveSteps(deployment, store, *_both(deployment, store, record), 0, report)
    with steps.shield():
        report(settle(steps, record, tolerant(report)))
    return True


def current(deployment: Deployment, store: Store) -> InstalledRelease:
    """The release that runs, or the checkout."""
    number = store.current()
    return store.get(number) if number != CHECKOUT else find_checkout(deployment, store, Path(sys.prefix))


def prune(deployment: Deployment, keep: int, dry_run: bool, report: Report) -> list[InstalledRelease]:
    """Removes old releases but the newest `keep`; returns those that it removed, or would remove.

    The current and the previous one stay, and those from which something still runs or is to run.
    """
    store = Store(deployment.settings.home)
    with store.lock():
        if not dry_run:
            settle_interrupted(deployment, store, report)
            remove_unfinished(store, report)
        releases = store.installed()
        removed = []
        for each in releases[: max(len(releases) - keep, 0)]:
            if reason := _why_kept(deployment, store, each):
                report(f"{each.name} stays: {reason}")
                continue
            removed.append(each)
            if not dry_run:
                _remove(each)
    return removed


def _switch(
    deployment: Deployment, store: Store, target: InstalledRelease, watch_seconds: float, report: Report
) -> None:
    origin = current(deployment, store)
    if origin.number == target.number:
        raise Conflict(f"{target.name} is current already: `bisnesctl release list` shows the others")
    switch_records.refuse_others(store.home)
    if deployment.is_locked():
        raise Conflict("another command is starting or stopping something here; wait for it, then try again")
    if store.state().has_failed(target.number):
        report(f"{target.name} failed before: {store.state().trials[target.number].reason}; trying it again")
    steps = LiveSteps(deployment, store, origin, target, watch_seconds, report)
    record = switch_records.begin(origin.number, target.number)
    if deployment.supervisor.running():
        if origin.number == CHECKOUT:
            _remember(store, origin)
        switch(steps, record, tolerant(report))
        _report_rest(deployment, origin, report)
        return
    steps.check()
    steps.accept(record)
    report(f"nothing runs; `{deployment.start_command}` starts it with {target.name}")


def _remember(store: Store, checkout: InstalledRelease) -> None:
    """Records a checkout before its first switch, so that an interrupted one can return to it."""
    from bisnesctl.releases.live import as_known

    state = store.state()
    state.checkout = as_known(checkout)
    store.write(state)


def _both(deployment: Deployment, store: Store, record: SwitchRecord) -> tuple[InstalledRelease, InstalledRelease]:
    try:
        return store.get(record.origin), store.get(record.target)
    except UsageError as error:
        raise BisnesError(
            f"`{record.command}` was interrupted, and one of its releases is gone: install it again, or remove "
            f"{store.folder / switch_records.FILE} and type `{deployment.start_command}`"
        ) from error


def _report_rest(deployment: Deployment, origin: InstalledRelease, report: Report) -> None:
    """Names what a switch does not restart."""
    rest = programs.running(deployment.processes(), origin.folder)
    if (pid := deployment.supervisor_pid()) and programs.folder_of(pid, [origin.folder]):
        rest.append("supervisord")
    if rest:
        report(
            f"{listed(rest)} still run{'s' if len(rest) == 1 else ''} {origin.name}, which does no harm; "
            "`bisnesctl stop` and `bisnesctl start` replace all, with an interruption"
        )


def _why_kept(deployment: Deployment, store: Store, each: InstalledRelease) -> str:
    previous = store.previous()
    if each.number == store.current():
        return "it is current"
    if previous is not None and each.number == previous.number:
        return "`bisnesctl release rollback` returns to it"
    if users := programs.users_of(each.folder):
        return f"{listed(users)} still run{'s' if len(users) == 1 else ''} from it"
    if _is_configured(deployment, each):
        return "supervisord's configuration names it"
    if Path(sys.prefix) == each.folder:
        return "this command runs from it"
    return ""


def _is_configured(deployment: Deployment, each: InstalledRelease) -> bool:
    run_dir = deployment.settings.run_dir
    for file in (run_dir / SUPERVISORD_CONF, *(run_dir / SESSIONS).glob("*.conf")):
        try:
            if f"{each.folder}/" in file.read_text(errors="replace"):
                return True
        except FileNotFoundError:
            continue
        except OSError as error:
            raise CannotWrite(disk.explain(error, file)) from error
    return False


def _remove(each: InstalledRelease) -> None:
    """Its record first: a folder without it counts as an installation that was interrupted."""
    with disk.writing(each.folder):
        (each.folder / RECORD).unlink()
        shutil.rmtree(each.folder)
