"""Adds and removes WhatsApp Web sessions while everything else runs.

Each session has a file below `run_dir`, which supervisord's configuration includes. The file is the record that the
session is to run, and for which bot.
"""

from bisnesctl.host import disk
from bisnesctl.processes.deployment import SESSION_PROGRAM, SessionProgram, find_sessions
from bisnesctl.processes.render import SESSIONS, render_session
from bisnesctl.processes.supervisor import Supervisor, wait_stopped
from bisnesctl.processes.topology import Instance
from bisnesctl.settings import Settings

#: Seconds beyond the kill timeout that the end of a session may take.
_STOP_MARGIN_SECONDS = 5.0


class SessionPrograms:
    """Adds sessions to a running supervisord and removes them, without affecting other programs.

    Every call may be repeated. It raises `NotRunning` if supervisord does not answer, `SupervisorFault` if it refuses.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._supervisor = Supervisor(settings.run_dir)

    def known(self) -> list[SessionProgram]:
        """The sessions that were added."""
        return find_sessions(self._settings)

    def add(self, company: str, phone: int) -> str:
        """Starts a session with the current settings and returns its name.

        Raises `ConfigError` if supervisord's syntax cannot express the company's id, `CannotWrite` if its file cannot
        be written.
        """
        instance = SessionProgram(company, phone).instance(self._settings)
        render_session(self._settings, instance).write(self._settings.run_dir)
        changes = self._supervisor.reread()
        if instance.group in changes.changed and not self._stop(instance):
            wait_stopped(self._supervisor, {instance.name}, SESSION_PROGRAM.kill_timeout + _STOP_MARGIN_SECONDS)
            self._stop(instance)
        if instance.group in [*changes.added, *changes.changed]:
            self._supervisor.add_group(instance.group)
        self._supervisor.start(instance.full_name)
        return instance.name

    def remove(self, name: str) -> None:
        """Stops a session, waits for its end and removes it."""
        if not self.take_down(name):
            wait_stopped(self._supervisor, {name}, SESSION_PROGRAM.kill_timeout + _STOP_MARGIN_SECONDS)
            self.take_down(name)

    def take_down(self, name: str) -> bool:
        """Stops a session without waiting, and removes it if it has stopped. Returns whether it was removed."""
        session = next((each for each in self.known() if each.name == name), None)
        if session is not None and not self._stop(session.instance(self._settings)):
            return False
        file = self._settings.run_dir / SESSIONS / f"{name}.conf"
        with disk.writing(file):
            file.unlink(missing_ok=True)
        return True

    def _stop(self, instance: Instance) -> bool:
        """Stops the program without waiting. Returns whether supervisord does not have it any more."""
        process = self._supervisor.processes().get(instance.name)
        if process is None:
            return True
        self._supervisor.stop(instance.full_name)
        if process.active:
            return False
        self._supervisor.remove_group(instance.group)
        return True
