"""The programs of WhatsApp Web sessions, which come and go while everything else runs.

Each has a file of its own below `run_dir`, which supervisord's configuration includes: the file is what says that the
session is there, and for which number.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from bisnesctl import paths
from bisnesctl.host import disk
from bisnesctl.naming import SESSION, session_name
from bisnesctl.processes import template_variables
from bisnesctl.processes.render import SESSIONS, File, render_session
from bisnesctl.processes.supervisor import Supervisor, wait_stopped
from bisnesctl.processes.topology import Instance, instance_of, program
from bisnesctl.settings import Settings

#: The row of every session.
PROGRAM = program(SESSION)
#: Beyond the kill timeout, seconds after which the end of a session is not waited for any more.
_STOP_MARGIN = 5.0


@dataclass(frozen=True, order=True)
class Session:
    """A number's session program."""

    company: str
    phone: int

    @property
    def name(self) -> str:
        """What supervisord, the logs and the heartbeat call it."""
        return session_name(self.company, self.phone)


def found(settings: Settings) -> list[Session]:
    """The sessions that are to run here, whether they do or not."""
    files = (settings.run_dir / SESSIONS).glob("[!.]*.conf")
    return sorted(session for file in files if (session := _read(file)) is not None)


def instances(settings: Settings) -> list[Instance]:
    """The sessions as supervisord knows them."""
    return [_instance(each, settings) for each in found(settings)] if settings.enable_wwebjs else []


def _instance(session: Session, settings: Settings) -> Instance:
    words = {"company": session.company, "phone": str(session.phone)}
    return instance_of(PROGRAM, session.name, settings, words)


def _read(file: Path) -> Session | None:
    """The session of a file; none where it is gone, or was not written by `_render`."""
    try:
        company, phone = json.loads(file.read_text().partition("\n")[0].removeprefix("; "))
        return Session(str(company), int(phone))
    except (OSError, ValueError, TypeError):
        return None


class SessionPrograms:
    """Adds sessions to the running supervisord and removes them; nothing else that it runs is touched.

    Every call may be repeated. It raises `NotRunning` where supervisord is away, `SupervisorFault` where it refuses.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._supervisor = Supervisor(paths.supervisor_socket(settings.run_dir))

    def known(self) -> list[Session]:
        """The sessions that were added."""
        return found(self._settings)

    def add(self, company: str, phone: int) -> str:
        """Has a session run from now on, with the settings of now, and returns its name.

        Raises `ConfigError` where supervisord cannot express the company's id, `CannotWrite` where its file cannot be
        written.
        """
        instance = _instance(Session(company, phone), self._settings)
        _file(instance, self._settings).write(self._settings.run_dir)
        changes = self._supervisor.reread()
        if instance.group in changes.changed and not self._take_down(instance):
            wait_stopped(self._supervisor, {instance.name}, PROGRAM.kill_timeout + _STOP_MARGIN)
            self._take_down(instance)
        if instance.group in [*changes.added, *changes.changed]:
            self._supervisor.add_group(instance.group)
        self._supervisor.start(instance.full_name)
        return instance.name

    def remove(self, name: str) -> None:
        """Stops a session and forgets it. It is done when the process has ended."""
        if not self.take_down(name):
            wait_stopped(self._supervisor, {name}, PROGRAM.kill_timeout + _STOP_MARGIN)
            self.take_down(name)

    def take_down(self, name: str) -> bool:
        """Tells a session to stop without waiting for it, and forgets it once it has; whether that is done."""
        session = next((each for each in self.known() if each.name == name), None)
        if session is not None and not self._take_down(_instance(session, self._settings)):
            return False
        file = self._settings.run_dir / SESSIONS / f"{name}.conf"
        with disk.writing(file):
            file.unlink(missing_ok=True)
        return True

    def _take_down(self, instance: Instance) -> bool:
        """Whether supervisord has no such program any more; else it is told to stop."""
        process = self._supervisor.processes().get(instance.name)
        if process is None:
            return True
        self._supervisor.stop(instance.full_name)
        if process.active:
            return False
        self._supervisor.remove_group(instance.group)
        return True


def _file(instance: Instance, settings: Settings) -> File:
    return render_session(settings, instance, template_variables.words(settings))
