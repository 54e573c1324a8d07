"""A deployment: a home folder with its settings, the instances that may run there, and its supervisord.

This module observes; `lifecycle` changes. Two kinds of files in `run_dir` describe a deployment: `mode.json` records
its last start, and each WhatsApp Web session that is to run has a configuration file in `sessions/`.
"""

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from bisnesctl import paths
from bisnesctl.errors import CannotWrite, ConfigError, Conflict, NotRunning, ShuttingDown
from bisnesctl.host import disk, file_lock
from bisnesctl.host.absence import absence
from bisnesctl.naming import SESSION, session_name
from bisnesctl.processes import failed_start, known_good, scales, stop_records, switch_records
from bisnesctl.processes.extras import find_extras, in_start_order, left_out_explained
from bisnesctl.processes.failed_start import FailedStart
from bisnesctl.processes.render import SESSIONS, SUPERVISORD_CONF, File
from bisnesctl.processes.selection import in_mode
from bisnesctl.processes.supervisor import CALL_TIMEOUT_SECONDS, Process, Supervisor, pid_in, running_configs
from bisnesctl.processes.topology import Instance, Mode, expand, instance_of, program
from bisnesctl.settings import Settings, load

#: The file that commands lock while they start or stop something, below `run_dir`.
LOCK = "bisnesctl.lock"
#: Seconds for which a command waits for the lock: the guard may hold it while it starts some instances.
LOCK_PATIENCE_SECONDS = 5.0
#: Seconds after which it says what it waits for.
LOCK_NOTICE_SECONDS = 0.5
#: The file that records the last start, below `run_dir`.
LAST_START = "mode.json"
#: The program of every WhatsApp Web session.
SESSION_PROGRAM = program(SESSION)


@dataclass(frozen=True)
class LastStart:
    """How the deployment was started last."""

    mode: Mode
    sandbox: bool
    #: Names given with `--only`; empty: all programs.
    only: tuple[str, ...] = ()
    #: When it was started or changed its mode, in seconds since the epoch; 0 if an operator stopped it.
    since: float = 0.0
    #: Whether the programs of the other mode run too, because bots are being moved between the modes.
    beside: bool = False

    def expected(self, instances: list[Instance]) -> list[Instance]:
        """The instances that should run."""
        return _in_modes(instances, self.mode, self.only, self.beside)

    @property
    def modes(self) -> frozenset[Mode]:
        """The modes whose programs run."""
        return frozenset(Mode) if self.beside else frozenset({self.mode})


@dataclass(frozen=True, order=True)
class SessionProgram:
    """A WhatsApp Web session that is to run here."""

    company: str
    phone: int

    @property
    def name(self) -> str:
        """Its name in supervisord, in logs and in heartbeats."""
        return session_name(self.company, self.phone)

    def instance(self, settings: Settings) -> Instance:
        """Its instance of the session program."""
        own = {"company": self.company, "phone": str(self.phone)}
        return instance_of(SESSION_PROGRAM, self.name, settings, own)


class Condition(StrEnum):
    """The condition of supervisord."""

    RUNNING = "running"
    #: It is shutting down.
    STOPPING = "stopping"
    #: It runs but does not answer.
    SILENT = "silent"
    GONE = "gone"


@dataclass(frozen=True)
class Observation:
    """A deployment as a start finds it."""

    condition: Condition
    #: The instances of the mode to start, in order of start.
    wanted: list[Instance]
    #: The instances that run or are starting, of any mode.
    active: list[Instance]


@dataclass(frozen=True)
class Deployment:
    """A deployment as commands see it; built without a request to any server."""

    settings: Settings
    supervisor: Supervisor

    @property
    def instances(self) -> list[Instance]:
        """The instances that may run here, in order of start, with the sessions of this moment."""
        sessions = find_sessions(self.settings) if self.settings.enable_wwebjs else []
        programs = known_good.applied(self.settings.run_dir, expand(self.settings))
        return [*programs, *(each.instance(self.settings) for each in sessions)]

    def known(self, processes: Mapping[str, Process]) -> list[Instance]:
        """The instances that may run here, and the extra ones that run, in order of start."""
        instances = self.instances
        return in_start_order([*instances, *find_extras(instances, processes, self.settings)])

    @property
    def config(self) -> Path:
        """supervisord's configuration."""
        return self.settings.run_dir / SUPERVISORD_CONF

    @property
    def last_start(self) -> LastStart | None:
        """How it was started last; None if it never was."""
        return read_last_start(self.settings.run_dir)

    @property
    def mode(self) -> Mode:
        """The mode that was started last, or else the default."""
        found = self.last_start
        return found.mode if found else Mode.MULTIPROCESS

    @property
    def modes(self) -> frozenset[Mode]:
        """The modes whose programs were started last: one, or both while bots are moved."""
        found = self.last_start
        return found.modes if found else frozenset({Mode.MULTIPROCESS})

    def wanted(self, mode: Mode, only: tuple[str, ...], beside: bool = False) -> list[Instance]:
        """The instances of a mode, limited to these names and the programs that these need.

        `beside`: those of the other mode too.
        """
        with left_out_explained(self.settings):
            return _in_modes(self.instances, mode, only, beside)

    @contextlib.contextmanager
    def observed(
        self, command: str, mode: Mode, only: tuple[str, ...], report: Callable[[str], None] = lambda text: None,
        beside: bool = False,
    ) -> Iterator[Observation]:  # fmt: skip
        """Within it, the deployment is locked; yields how it is. Raises as `lock` and `wanted` do."""
        with self.lock(command, report=report):
            condition = self.condition()
            processes = self.processes() if condition is Condition.RUNNING else {}
            wanted = self.wanted(mode, only, beside)
            yield Observation(condition, wanted, _active(self.known(processes), processes))

    def supervisor_pid(self) -> int | None:
        """The pid of this home's supervisord, even if it does not answer; None if it does not run."""
        return pid_in(self.settings.run_dir / "supervisord.pid", self.config)

    def condition(self) -> Condition:
        """The condition of its supervisord."""
        pid, found = self.supervisor_pid(), self.supervisor.state()
        if found is None:
            return Condition.GONE if pid is None else Condition.SILENT
        return Condition.STOPPING if found == "SHUTDOWN" else Condition.RUNNING

    def check_started(self) -> None:
        """Raises `NoDeployment` if nobody ever tried to start something in this home."""
        if not self.was_tried:
            raise absence(self.settings, own_running_homes())

    @property
    def was_tried(self) -> bool:
        """Whether something was started here, or somebody tried it. A supervisord shows it as a record does."""
        return self.last_start is not None or self.failed_start is not None or self.supervisor_pid() is not None

    @property
    def failed_start(self) -> FailedStart | None:
        """The start that failed since the last one that succeeded or the last stop; None if there is none."""
        return failed_start.read(self.settings.run_dir)

    def require_running(self) -> None:
        """Raises `NotRunning` with the reason unless supervisord answers and accepts calls."""
        match self.condition():
            case Condition.SILENT:
                raise NotRunning(
                    f"supervisord (pid {self.supervisor_pid()}) did not answer within {CALL_TIMEOUT_SECONDS} s: "
                    "`bisnesctl stop` ends it and all its processes"
                )
            case Condition.STOPPING:
                raise ShuttingDown
            case Condition.GONE:
                self.check_started()
                raise NotRunning(f"nothing is running in {self.settings.home}. Start it: `{self.start_command}`")

    def processes(self) -> dict[str, Process]:
        """supervisord's processes by name; empty if it does not answer."""
        try:
            return self.supervisor.processes()
        except NotRunning:
            return {}

    def active(self) -> list[Instance]:
        """The instances that run or are starting, in order of start."""
        processes = self.processes()
        return _active(self.known(processes), processes)

    def unsettled(self) -> list[Instance]:
        """The instances that run, or that the guard may start again, in order of start."""
        processes = self.processes()
        known = self.known(processes)
        return [each for each in known if (found := processes.get(each.name)) and not found.settled]

    def expected(self) -> list[Instance]:
        """The instances that should run; empty if nothing was started."""
        last = self.last_start
        return last.expected(self.instances) if last else []

    def shown(self, processes: Mapping[str, Process]) -> list[Instance]:
        """The instances that `status` shows: those that should run, and those that run."""
        expected = {each.name for each in self.expected()}
        return [
            each
            for each in self.known(processes)
            if each.name in expected or ((found := processes.get(each.name)) and found.state != "STOPPED")
        ]

    @property
    def was_stopped(self) -> bool:
        """Whether an operator stopped everything since the last start."""
        last = self.last_start
        return last is not None and not last.since

    @property
    def start_command(self) -> str:
        """The command that starts it as it was started last, or that repeats the start that failed."""
        failed, last = self.failed_start, self.last_start
        if failed is not None:
            return failed.command
        words = ["bisnesctl", "start", f"--{self.mode}"]
        words += ["--sandbox"] if last is not None and last.sandbox else []
        return " ".join(words + (["--only", *last.only] if last is not None and last.only else []))

    @contextlib.contextmanager
    def lock(
        self,
        command: str,
        patience_seconds: float = LOCK_PATIENCE_SECONDS,
        report: Callable[[str], None] = lambda text: None,
    ) -> Iterator[None]:
        """Excludes other commands that start or stop something. Raises `Conflict` that names the running command.

        `report`: is called once with the command that it waits for, if it waits for long. Works on a full or
        read-only disk too, so that `stop` works there.
        """
        path = self.settings.run_dir / LOCK
        handle = _open_lock(path, self.settings)
        try:
            if not _locked(handle, patience_seconds, lambda: report(f"waiting for {_quoted_holder(path)}")):
                raise Conflict(f"another command is running here: {_holder(path)}; wait, or end it")
            switch_records.refuse_others(self.settings.home)
            file_lock.write_holder(handle, f"bisnesctl {command} (pid {os.getpid()})\n")
            yield
        finally:
            os.close(handle)

    def is_locked(self) -> bool:
        """Whether a command is starting or stopping something."""
        return file_lock.is_held(self.settings.run_dir / LOCK)


def _in_modes(instances: list[Instance], mode: Mode, only: tuple[str, ...], beside: bool) -> list[Instance]:
    names = {each.name for each in in_mode(instances, mode, only)}
    return [each for each in instances if each.name in names or (beside and mode not in each.program.modes)]


def _active(instances: list[Instance], processes: Mapping[str, Process]) -> list[Instance]:
    return [each for each in instances if (found := processes.get(each.name)) and found.active]


def open_deployment(settings: Settings | None = None) -> Deployment:
    """The deployment of these settings. Default: the settings in force, in the sandbox if it was started with it."""
    settings = as_started(load()) if settings is None else settings
    return Deployment(settings, Supervisor(settings.run_dir))


def as_started(settings: Settings) -> Settings:
    """The settings with the numbers of `bisnesctl scale`, in the sandbox if the deployment was started with it."""
    last = read_last_start(settings.run_dir)
    return scales.apply(settings).copy_with(sandbox=settings.sandbox or (last is not None and last.sandbox))


def own_running_homes() -> list[str]:
    """The homes of this user's deployments that run on this machine."""
    return sorted(str(config.parent.parent) for config in running_configs(SUPERVISORD_CONF) if _is_own(config))


def _is_own(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.geteuid()
    except OSError:
        return False


def read_last_start(run_dir: Path) -> LastStart | None:
    """The recorded start; None if there was none, or its file is damaged."""
    try:
        found = json.loads((run_dir / LAST_START).read_text())
        return LastStart(
            Mode(found["mode"]), bool(found["sandbox"]), tuple(found["only"]), float(found["since"]),
            bool(found.get("beside")),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def record_start(run_dir: Path, mode: Mode, sandbox: bool, only: tuple[str, ...], beside: bool = False) -> None:
    """Records a start. If the deployment runs in the same way already, the recorded time stays."""
    failed_start.remove(run_dir)
    old = read_last_start(run_dir)
    if old is None or not old.since or (old.mode, old.sandbox, old.only) != (mode, sandbox, only):
        File(LAST_START, json.dumps(asdict(LastStart(mode, sandbox, only, time.time(), beside)))).write(run_dir)
    elif old.beside != beside:
        File(LAST_START, json.dumps(asdict(replace(old, beside=beside)))).write(run_dir)


def record_stop(run_dir: Path) -> None:
    """Records that an operator stopped everything. Raises `CannotWrite`."""
    failed_start.remove(run_dir)
    old = read_last_start(run_dir)
    if old is not None:
        content = json.dumps(asdict(replace(old, since=0.0))).encode()
        with disk.writing(run_dir / LAST_START):
            disk.refresh(run_dir / LAST_START, content)  # works on a full disk too
        stop_records.add(run_dir, [stop_records.EVERYTHING])


def find_sessions(settings: Settings) -> list[SessionProgram]:
    """The WhatsApp Web sessions that are to run here, running or not."""
    files = (settings.run_dir / SESSIONS).glob("[!.]*.conf")
    return sorted(session for file in files if (session := _read_session(file)) is not None)


def _read_session(file: Path) -> SessionProgram | None:
    """The session of a file that `render_session` wrote; None for any other file, or one that is gone."""
    try:
        company, phone = json.loads(file.read_text().partition("\n")[0].removeprefix("; "))
        return SessionProgram(str(company), int(phone))
    except (OSError, ValueError, TypeError):
        return None


def make_folders(settings: Settings) -> None:
    """Creates the home and its folders.

    Raises `CannotWrite` because of the disk or another owner, `ConfigError` if the path itself is unusable.
    """
    private = [
        settings.run_dir,
        settings.log_dir,
        settings.heartbeat_dir,
        settings.journal_dir,
        settings.run_dir / SESSIONS,
        paths.supervisor_socket(settings.run_dir).parent,
    ]
    with disk.writing(settings.home):
        try:
            settings.home.mkdir(mode=0o711, parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigError(f"{disk.explain(error, settings.home)} (in {settings.env_file})") from error
    for folder in private:
        with disk.writing(folder):
            folder.mkdir(mode=0o700, exist_ok=True)
            _check_writable(folder)


def _check_writable(folder: Path) -> None:
    """Raises the `OSError` that writing a file would raise, or if another user owns the folder."""
    if folder.lstat().st_uid != os.geteuid():
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _locked(handle: int, patience_seconds: float, report: Callable[[], None]) -> bool:
    """Locks the file. Waits a moment for the guard, which may hold the lock while it starts a few instances.

    `report`: is called once if it waits for longer than `LOCK_NOTICE_SECONDS`.
    """
    begun, is_reported = time.monotonic(), False
    deadline = begun + patience_seconds
    while not file_lock.take(handle):
        if time.monotonic() > deadline:
            return False
        if not is_reported and time.monotonic() > begun + LOCK_NOTICE_SECONDS:
            report()
            is_reported = True
        time.sleep(0.05)
    return True


def _holder(path: Path) -> str:
    """The command that holds the lock."""
    return file_lock.holder(path) or "its name is unknown, because the disk cannot be written"


def _quoted_holder(path: Path) -> str:
    """The command that holds the lock, for a message: `"restart all" (pid 1234)`."""
    found = re.fullmatch(r"\S+ (.+) (\(pid \d+\))", _holder(path))
    return f'"{found[1]}" {found[2]}' if found else "another command"


def _open_lock(path: Path, settings: Settings) -> int:
    """Opens the lock file, creating it if needed. Raises `CannotWrite`.

    If the disk cannot be written, the existing file is opened for reading, or else its folder is locked.
    """
    try:
        make_folders(settings)
        with disk.writing(path):
            return file_lock.open_file(path)
    except CannotWrite as error:
        for each in (path, path.parent):
            with contextlib.suppress(OSError):
                if each.stat().st_uid == os.geteuid():
                    return os.open(each, os.O_RDONLY | os.O_CLOEXEC)
        raise error
