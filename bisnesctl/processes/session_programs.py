"""The programs of WhatsApp Web sessions, which come and go while everything else runs.

Each has a file of its own below `run_dir`, which supervisord's configuration includes: the file is what says that the
session is there, and for which number.
"""

from bisnesctl import paths
from bisnesctl.host import disk
from bisnesctl.processes.deployment import SESSION_PROGRAM, SessionProgram, find_sessions
from bisnesctl.processes.render import SESSIONS, command_variables, render_session
from bisnesctl.processes.supervisor import Supervisor, wait_stopped
from bisnesctl.processes.topology import Instance
from bisnesctl.settings import Settings

#: Beyond the kill timeout, seconds after which the end of a session is not waited for any more.
_STOP_MARGIN = 5.0


class SessionPrograms:
    """Adds sessions to the running supervisord and removes them; nothing else that it runs is touched.

    Every call may be repeated. It raises `NotRunning` where supervisord is away, `SupervisorFault` where it refuses.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._supervisor = Supervisor(paths.supervisor_socket(settings.run_dir))

    def known(self) -> list[SessionProgram]:
        """The sessions that were added."""
        return find_sessions(self._settings)

    def add(self, company: str, phone: int) -> str:
        """Has a session run from now on, with the settings of now, and returns its name.

        Raises `ConfigError` where supervisord cannot express the company's id, `CannotWrite` where its file cannot be
        written.
        """
        instance = SessionProgram(company, phone).instance(self._settings)
        render_session(self._settings, instance, command_variables(self._settings)).write(self._settings.run_dir)
        changes = self._supervisor.reread()
        if instance.group in changes.changed and not self._take_down(instance):
            wait_stopped(self._supervisor, {instance.name}, SESSION_PROGRAM.kill_timeout + _STOP_MARGIN)
            self._take_down(instance)
        if instance.group in [*changes.added, *changes.changed]:
            self._supervisor.add_group(instance.group)
        self._supervisor.start(instance.full_name)
        return instance.name

    def remove(self, name: str) -> None:
        """Stops a session and forgets it. It is done when the process has ended."""
        if not self.take_down(name):
            wait_stopped(self._supervisor, {name}, SESSION_PROGRAM.kill_timeout + _STOP_MARGIN)
            self.take_down(name)

    def take_down(self, name: str) -> bool:
        """Tells a session to stop without waiting for it, and forgets it once it has; whether that is done."""
        session = next((each for each in self.known() if each.name == name), None)
        if session is not None and not self._take_down(session.instance(self._settings)):
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
