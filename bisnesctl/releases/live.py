"""The steps of a switch in a deployment. The commands of a release are run by that release itself."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from bisnesctl.database import migrations
from bisnesctl.errors import BisnesError, ExitCode
from bisnesctl.formatting import listed
from bisnesctl.health.guard_file import GUARD
from bisnesctl.processes import restart_records, stop_records, switch_records
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.switch_records import SwitchRecord
from bisnesctl.releases import checks, programs
from bisnesctl.releases.programs import CommandFailed, Report
from bisnesctl.releases.store import CHECKOUT, InstalledRelease, Store
from bisnesctl.releases.watch import Baseline, Watch, measure_before

#: Seconds for which the way back waits for a command that is still starting or stopping something.
LOCK_PATIENCE_SECONDS = 60.0
#: Signals with which an operator, or the end of a connection, interrupts a command.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class LiveSteps:
    """One switch in a deployment; see `switch.Steps`."""

    def __init__(
        self,
        deployment: Deployment,
        store: Store,
        origin: InstalledRelease,
        target: InstalledRelease,
        watch_seconds: float,
        report: Report,
    ) -> None:
        self._deployment, self._store, self._origin, self._target = deployment, store, origin, target
        self._watch_seconds, self._report = watch_seconds, tolerant(report)
        self._before: Baseline | None = None

    def check(self) -> None:
        """See `switch.Steps`."""
        if self._deployment.supervisor.running():
            self._before = measure_before(self._deployment)
        checks.check(self._deployment, self._target, self._origin, self._report)

    def migrate(self) -> None:
        """Applies the migrations of the new release while the one before runs."""
        settings = self._deployment.settings
        folder = checks.sql_folder(self._target, settings.start_timeout_seconds)
        if pending := migrations.pending(settings.database_dsn, folder):
            self._report(f"migrating the database: {listed(pending)}; {self._origin.name} continues on it")
            self._run(self._target, "migrate")

    def running(self) -> tuple[str, ...]:
        """The instances without those that continue with the release before: servers and the sandbox."""
        return tuple(each.name for each in self._deployment.active() if not each.program.is_base or each.name == GUARD)

    def reload(self) -> None:
        """See `switch.Steps`."""
        self._report(f"restarting everything in turn with {self._target.name}")
        self._run(self._target, "reload")

    def watch(self) -> str:
        """See `switch.Steps`."""
        if self._before is None or not self._watch_seconds:
            return ""
        self._report(
            f"watching it for {self._watch_seconds:g} s: ends of processes, failed requests and messages, times"
        )
        watch = Watch(self._deployment, self._before)
        fault = watch.run(self._watch_seconds, self._report)
        if not fault:
            self._report(f"✓ {watch.summary()}")
        return fault

    def complete(self) -> None:
        """See `switch.Steps`."""
        if any(each.name == GUARD for each in self._deployment.active()):
            self._run(self._target, "reload", GUARD)

    def astray(self, record: SwitchRecord) -> list[str]:
        """See `switch.Steps`. Nothing is astray if nothing runs: the next start uses the current release."""
        if not self._deployment.supervisor.running():
            return []
        processes = self._deployment.supervisor.processes()
        stopped = stop_records.read(self._deployment.settings.run_dir)
        astray = programs.running(processes, self._target.folder)
        down = [name for name in record.ran if name not in stopped and (at := processes.get(name)) and not at.active]
        return list(dict.fromkeys([*astray, *down]))

    def bring_back(self, names: list[str]) -> None:
        """See `switch.Steps`. Instances that the release before does not have are stopped."""
        try:
            self._run_patiently(self._origin, "reload", *names)
        except CommandFailed as error:
            if error.status != ExitCode.USAGE:
                raise
            self._run_patiently(self._origin, "reload")
            if GUARD in names:
                self._run_patiently(self._origin, "reload", GUARD)

    @contextlib.contextmanager
    def shield(self) -> Iterator[None]:
        """See `switch.Steps`."""
        before = {each: signal.signal(each, lambda *_: self._say_patience()) for each in SIGNALS}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def save(self, record: SwitchRecord) -> None:
        """See `switch.Steps`."""
        switch_records.write(self._store.home, record)

    def forget(self, record: SwitchRecord) -> None:
        """Removes what interrupted reloads left, too, since everything was brought to one release."""
        restart_records.forget(self._deployment.settings.run_dir, record.at)
        switch_records.remove(self._store.home)

    def accept(self, record: SwitchRecord) -> None:
        """See `switch.Steps`."""
        state = self._store.state()
        if record.origin == CHECKOUT:
            state.checkout = as_known(self._origin)
        state.accept(record.origin, record.target)
        self._store.write(state)
        self._store.point(record.target)

    def reject(self, record: SwitchRecord, reason: str) -> None:
        """A release that was accepted once stays good if it cannot be checked at the moment."""
        state = self._store.state()
        was_good = record.target in state.trials and state.trials[record.target].passed
        if record.stage is not switch_records.Stage.PREPARING or not was_good:
            state.fail(record.target, reason)
            self._store.write(state)
        if self._store.current() != record.origin:
            self._store.point(record.origin)

    def _run(self, release: InstalledRelease, *words: str) -> None:
        programs.run(release, self._deployment.settings, words, lambda line: self._report(f"  {line}"))

    def _run_patiently(self, release: InstalledRelease, *words: str) -> None:
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            try:
                self._run(release, *words)
            except CommandFailed as error:
                if error.status != ExitCode.CONFLICT or time.monotonic() > deadline:
                    raise
                time.sleep(1)
            else:
                return

    def _say_patience(self) -> None:
        self._report("it is going back already: wait for it")


def tolerant(report: Report) -> Report:
    """A report that does nothing once the terminal is gone: the way back must not end there."""

    def say(text: str) -> None:
        with contextlib.suppress(OSError):
            report(text)

    return say


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within it, SIGTERM and the end of a connection raise KeyboardInterrupt as Ctrl-C does."""
    before = {each: signal.signal(each, signal.default_int_handler) for each in SIGNALS[1:]}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def as_known(checkout: InstalledRelease) -> dict[str, str]:
    """A checkout as the state has it."""
    return {"folder": str(checkout.folder), "version": checkout.version, "revision": checkout.revision}


def find_checkout(deployment: Deployment, store: Store, own: Path) -> InstalledRelease:
    """The checkout that runs in place: the Python of supervisord, or `own` if nothing runs.

    Raises `BisnesError` if that is one of the releases.
    """
    import bisnesctl
    from bisnesctl import release

    folder = own
    if pid := deployment.supervisor_pid():
        words = [os.fsdecode(each) for each in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
        folder = next((Path(each).parent.parent for each in words if Path(each).name.startswith("python")), own)
    if folder.parent == store.folder:
        raise BisnesError(
            f"{store.folder / 'current'} is missing although {folder} runs: `ln -sfn {folder.name} "
            f"{store.folder / 'current'}` makes it current again"
        )
    installed = release.installed() if folder == own else release.Release(bisnesctl.__version__)
    return InstalledRelease(CHECKOUT, folder, installed.version, installed.revision)
