"""One deployment: a home with its settings, what may run there, and its supervisord. Here it is observed only."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bisnesctl import paths
from bisnesctl.errors import CannotWrite, ConfigError, Conflict, NotRunning, ShuttingDown
from bisnesctl.host import disk
from bisnesctl.processes import last_start, session_programs
from bisnesctl.processes.last_start import LastStart
from bisnesctl.processes.render import SESSIONS, SUPERVISORD_CONF
from bisnesctl.processes.supervisor import CALL_TIMEOUT, Process, Supervisor, pid_in
from bisnesctl.processes.topology import Instance, Mode, expand
from bisnesctl.settings import Settings, load

#: The file that a command which starts or stops something locks, below `run_dir`.
LOCK = "bisnesctl.lock"


class Condition(StrEnum):
    """How a deployment's supervisord is."""

    RUNNING = "running"
    #: It is about to end.
    STOPPING = "stopping"
    #: It lives and does not answer.
    SILENT = "silent"
    GONE = "gone"


@dataclass(frozen=True)
class Deployment:
    """Everything that a command needs to know; made without asking any server."""

    settings: Settings
    supervisor: Supervisor

    @property
    def instances(self) -> list[Instance]:
        """What may run here, in order of start; the sessions among it are those of this moment."""
        return [*expand(self.settings), *session_programs.instances(self.settings)]

    @property
    def config(self) -> Path:
        """supervisord's configuration."""
        return self.settings.run_dir / SUPERVISORD_CONF

    @property
    def state(self) -> LastStart | None:
        """What was started last."""
        return last_start.read(self.settings.run_dir)

    @property
    def mode(self) -> Mode:
        """The mode that was started last, or would be by default."""
        found = self.state
        return found.mode if found else Mode.MULTIPROCESS

    def supervisor_pid(self) -> int | None:
        """The pid of this home's supervisord, whether it answers or not; none where it does not live."""
        return pid_in(self.settings.run_dir / "supervisord.pid", self.config)

    def condition(self) -> Condition:
        """How its supervisord is."""
        pid, found = self.supervisor_pid(), self.supervisor.state()
        if found is None:
            return Condition.GONE if pid is None else Condition.SILENT
        return Condition.STOPPING if found == "SHUTDOWN" else Condition.RUNNING

    def require_running(self) -> None:
        """Raises `NotRunning`, saying what is the matter, unless supervisord answers and takes orders."""
        match self.condition():
            case Condition.SILENT:
                raise NotRunning(
                    f"supervisord (pid {self.supervisor_pid()}) did not answer within {CALL_TIMEOUT} s: "
                    "`bisnesctl stop` ends it and all its processes"
                )
            case Condition.STOPPING:
                raise ShuttingDown
            case Condition.GONE:
                raise NotRunning

    def processes(self) -> dict[str, Process]:
        """What supervisord knows, by name; nothing where it does not answer."""
        try:
            return self.supervisor.processes()
        except NotRunning:
            return {}

    def active(self) -> list[Instance]:
        """The instances that run, or are about to, in order of start."""
        processes = self.processes()
        return [each for each in self.instances if (found := processes.get(each.name)) and found.active]

    def unsettled(self) -> list[Instance]:
        """The instances that run or may be started again by the guard, in order of start."""
        processes = self.processes()
        return [each for each in self.instances if (found := processes.get(each.name)) and not found.settled]

    def shown(self, processes: dict[str, Process]) -> list[Instance]:
        """The instances worth showing: those that ought to run, and those that do."""
        expected = self.state.expected(self.instances) if self.state else []
        return [
            each
            for each in self.instances
            if each in expected or ((found := processes.get(each.name)) and found.state != "STOPPED")
        ]

    @contextlib.contextmanager
    def lock(self, command: str) -> Iterator[None]:
        """Keeps other commands that start or stop something out. Raises `Conflict` naming the one at work.

        It works on a full or read-only disk too, since commands such as `stop` need no more of it.
        """
        path = self.settings.run_dir / LOCK
        handle = _open_lock(path, self.settings)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(f"another command is at work here: {_holder(path)}; wait, or end it") from error
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"bisnesctl {command} (pid {os.getpid()})\n".encode(), 0)
            yield
        finally:
            os.close(handle)


def open_deployment(settings: Settings | None = None) -> Deployment:
    """The deployment of these settings; by default those in force, in the sandbox where it was started so."""
    if settings is None:
        settings = load()
        settings = last_start.with_sandbox(settings, last_start.read(settings.run_dir))
    return Deployment(settings, Supervisor(paths.supervisor_socket(settings.run_dir)))


def make_folders(settings: Settings) -> None:
    """Makes the home and its folders.

    Raises `CannotWrite` where the disk or an owner is in the way, `ConfigError` where the path itself is no good.
    """
    private = [settings.run_dir, settings.log_dir, settings.heartbeat_dir, settings.journal_dir]
    private.append(settings.run_dir / SESSIONS)
    private.append(paths.supervisor_socket(settings.run_dir).parent)
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
    """Raises the `OSError` that a file in the folder would meet, or that a foreign owner stands for."""
    if folder.lstat().st_uid != os.geteuid():
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _holder(path: Path) -> str:
    """The command that has the lock."""
    with contextlib.suppress(OSError):
        if found := path.read_text(errors="replace").strip():
            return found
    return "it could not say which one, since the disk takes nothing"


def _open_lock(path: Path, settings: Settings) -> int:
    """The lock's file, made where it is not there. Raises `CannotWrite`.

    Where the disk takes nothing, the file is merely read, or else its folder is locked instead.
    """
    try:
        make_folders(settings)
        with disk.writing(path):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except CannotWrite as error:
        for each in (path, path.parent):
            with contextlib.suppress(OSError):
                if each.stat().st_uid == os.geteuid():
                    return os.open(each, os.O_RDONLY | os.O_CLOEXEC)
        raise error
