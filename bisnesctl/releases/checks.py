"""The checks of a release before anything that runs is touched."""

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bisnesctl.database import postgres
from bisnesctl.errors import Conflict, DatabaseUnavailable, MigrationsPending, StartFailed
from bisnesctl.host import process_environment
from bisnesctl.lifecycle import self_tests
from bisnesctl.processes.deployment import Deployment
from bisnesctl.releases import contract
from bisnesctl.releases.programs import clean_environment, run
from bisnesctl.releases.store import CHECKOUT, PACKAGES, InstalledRelease
from bisnesctl.rollout import state

#: Programs of the tool itself, which have no self-test.
_OWN = "import bisnesctl.guard.__main__, bisnesctl.alerts.__main__, bisnesctl.processes.supervisor_plugin"
#: Raises the error of a bundle that is missing.
_WA_JS = "from bisnesctl import settings, wajs; wajs.bundle(settings.load_partly().with_defaults())"
#: Prints the packages of an environment as `lock.txt` names them.
_LIST = (
    "import importlib.metadata as m; print('\\n'.join(sorted({d.name + '==' + d.version for d in m.distributions()})))"
)
#: Modules of programs, for a release that is checked while nothing runs.
_SERVICES = (
    "import importlib, services.self_test as s; "
    "[importlib.import_module(each) for names in s.MODULES.values() for each in names]"
)
_SQL_FOLDER = "from bisnesctl.paths import shipped_folder; print(shipped_folder('sql'))"
_LINES = 12

Report = Callable[[str], None]


def check(deployment: Deployment, release: InstalledRelease, running: InstalledRelease, report: Report) -> None:
    """Raises `StartFailed` if the release cannot run here, `Conflict` if something else prevents a switch."""
    report(f"checking {release.name}: its packages, its programs, the database, the configuration")
    limit = deployment.settings.start_timeout_seconds
    _check_packages(release, limit)
    _check_environment(deployment)
    if deployment.supervisor.running():
        contract.check(deployment.settings.database_dsn, release, running, _sql_folders(release, running, limit))
    _load(release, _OWN, limit)
    if deployment.settings.enable_wwebjs:
        _load(release, _WA_JS, limit, deployment.settings.env_file)
    with tempfile.TemporaryDirectory(prefix="bisnesctl-") as scratch:
        run(release, deployment.settings, ["render", "--out", scratch], lambda _: None)
    if deployment.supervisor.running():
        self_tests.prove(deployment, deployment.active(), report, release.python)
    else:
        _load(release, _SERVICES, limit)


def refuse_rollout(deployment: Deployment) -> None:
    """Raises `Conflict` while bots move to another side: the rollout would take the restarts for faults and go back."""
    if not deployment.supervisor.running():
        return
    try:
        with postgres.connected(deployment.settings.database_dsn) as connection:
            found = state.active(connection)
    except (DatabaseUnavailable, MigrationsPending):
        return  # nothing drives a rollout then; what is wrong with the database, the next checks say
    if found is not None:
        raise Conflict(
            f"rollout {found.id} is under way, and would take the restarts for faults: `bisnesctl rollout status`; let "
            "it end, or `bisnesctl rollout abort` it"
        )


def _check_packages(release: InstalledRelease, limit: float) -> None:
    """Raises `StartFailed` if the packages are not those that were installed."""
    if release.number == CHECKOUT:
        return
    try:
        locked = {line.split()[0].lower() for line in (release.folder / PACKAGES).read_text().splitlines()}
    except OSError as error:
        raise StartFailed(f"{release.name} is damaged: {release.folder / PACKAGES} cannot be read") from error
    present = {each.lower() for each in _load(release, _LIST, limit).split()}
    if missing := sorted(_plain(each) for each in locked if _plain(each) not in {_plain(one) for one in present}):
        raise StartFailed(
            f"{release.name} is damaged: {', '.join(missing[:3])} is not in it any more; install it again"
        )


def _plain(name: str) -> str:
    """A package in one of its several spellings."""
    return name.replace("_", "-").replace(".", "-")


def _check_environment(deployment: Deployment) -> None:
    """Raises `Conflict` if the processes would load modules of another place than the release."""
    found = process_environment.read(deployment.supervisor_pid() or 0).get("PYTHONPATH")
    if found:
        raise Conflict(
            f"supervisord was started with PYTHONPATH={found}, so its processes load modules from there instead of the "
            "release: unset it, then `bisnesctl stop` and `bisnesctl start`"
        )


def _load(release: InstalledRelease, code: str, limit: float, env_file: Path | None = None) -> str:
    """Runs Python code with a release, `limit` seconds at most; returns its output.

    Raises `StartFailed` with its last lines.
    """
    own = {"BISNES_ENV": str(env_file)} if env_file else {}
    try:
        done = subprocess.run(
            [str(release.python), "-P", "-c", code],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=limit,
            env={**clean_environment(), **own},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise StartFailed(f"{release.name} takes more than {limit:g} s to load its modules") from error
    except OSError as error:
        raise StartFailed(f"{release.name} is damaged: {release.python} cannot be run ({error.strerror})") from error
    if done.returncode:
        raise StartFailed(_explain(release, done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]))
    return done.stdout


def _explain(release: InstalledRelease, lines: Sequence[str]) -> str:
    shown = [f"  {line}" for line in lines[-_LINES:]] if len(lines) > 1 else []
    return "\n".join([f"{release.name} cannot be loaded, so nothing was restarted: {lines[-1]}", *shown])


def _sql_folders(release: InstalledRelease, running: InstalledRelease, limit: float) -> dict[int, Path]:
    """The migrations of both. One that is damaged must not prevent the way to the other."""
    found = {release.number: sql_folder(release, limit)}
    with contextlib.suppress(StartFailed):
        found[running.number] = sql_folder(running, limit)
    return found


def sql_folder(release: InstalledRelease, limit: float) -> Path:
    """The migrations of a release. Raises `StartFailed` if it cannot be loaded within `limit` seconds."""
    return Path(_load(release, _SQL_FOLDER, limit).strip())
