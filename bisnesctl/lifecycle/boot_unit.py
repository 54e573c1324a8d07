"""The unit of systemd that starts a deployment at boot, and again if supervisord dies."""

import os
import pwd
import re
import shlex
import sys
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from bisnesctl import paths
from bisnesctl.errors import CannotWrite, Conflict, UsageError
from bisnesctl.host import disk, systemd
from bisnesctl.lifecycle.stop import SHUTDOWN_TIMEOUT_SECONDS, STOP_MARGIN_SECONDS, Report
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.topology import PROGRAMS

#: The name of the unit unless another one is given.
DEFAULT_NAME = "bisnesctl"
#: Steps of a start that wait until instances are healthy, with the migrations of the database.
_START_STEPS = 6
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class BootUnit:
    """A unit file and its place."""

    name: str
    #: Whether it belongs to the user's own systemd.
    user_unit: bool
    #: The user that runs the deployment.
    user: str
    env_file: Path
    text: str

    @property
    def path(self) -> Path:
        """The place of the file."""
        folder = systemd.user_units() if self.user_unit else systemd.SYSTEM_UNITS
        return folder / f"{self.name}.service"

    @property
    def systemctl(self) -> str:
        """The command with which an operator reaches it."""
        return "systemctl --user" if self.user_unit else "sudo systemctl"

    def install(self, deployment: Deployment, report: Report) -> None:
        """Writes the file and makes systemd start it at boot. Running processes are left alone.

        Raises `Conflict` if another deployment has a unit of this name, `CannotWrite`, `BisnesError`.
        """
        self._check_owner()
        with disk.writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            disk.replace(self.path, self.text.encode(), 0o644)
        systemd.call("daemon-reload", user_unit=self.user_unit)
        systemd.call("enable", f"{self.name}.service", user_unit=self.user_unit)
        report(f"wrote {self.path}: it starts at boot, and again if supervisord dies")
        if self.user_unit:
            report(f"to start at boot without a login: `sudo loginctl enable-linger {self.user}`")
        stop = "bisnesctl stop && " if deployment.supervisor_pid() is not None else ""
        report(f"to let systemd run it now: `{stop}{self.systemctl} start {self.name}`")

    def remove(self, report: Report) -> None:
        """Removes the file. Running processes continue."""
        if not self.path.exists():
            report(f"there is no {self.path}: nothing to remove")
            return
        self._check_owner()
        if systemd.is_running():
            systemd.call("disable", f"{self.name}.service", user_unit=self.user_unit)
        with disk.writing(self.path):
            self.path.unlink(missing_ok=True)
        if systemd.is_running():
            systemd.call("daemon-reload", user_unit=self.user_unit)
        report(f"removed {self.path}; what runs continues")

    def _check_owner(self) -> None:
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return
        except OSError as error:
            raise CannotWrite(disk.explain(error, self.path)) from error
        if _word(f"BISNES_ENV={self.env_file}") not in text:
            raise Conflict(f"{self.path} belongs to another deployment: choose a name with `--name`")


def make(deployment: Deployment, user_unit: bool, name: str) -> BootUnit:
    """The unit of a deployment, which starts it as it was started last. Raises `UsageError` for a wrong name."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name}: the name of a unit has letters, digits, `-`, `_` and `.`")
    settings = deployment.settings
    user = _owner(deployment)
    text = _render(
        home=str(settings.home).replace("%", "%%"),
        user_unit=user_unit,
        user=user,
        directory=settings.env_file.parent,
        env_file=settings.env_file,
        command=[*_program(settings.home), *deployment.start_command.split()[1:], "--foreground"],
        start_seconds=int(_START_STEPS * settings.start_timeout_seconds),
        stop_seconds=int(stop_seconds()),
    )
    return BootUnit(name, user_unit, user, settings.env_file, text)


def crontab_line(deployment: Deployment) -> str:
    """The line of a crontab that starts it at boot, for machines without systemd."""
    settings = deployment.settings
    words = [*_program(settings.home), *deployment.start_command.split()[1:]]
    environment = shlex.quote(str(settings.env_file))
    command = f"cd {shlex.quote(str(settings.env_file.parent))} && BISNES_ENV={environment} {shlex.join(words)}"
    return f"@reboot {command}".replace("%", "\\%")


def stop_seconds() -> float:
    """Seconds within which everything stops: each step of a stop in order, then supervisord."""
    tiers = groupby(sorted(PROGRAMS, key=lambda row: row.priority), key=lambda row: row.priority)
    steps = [max(row.kill_timeout for row in rows) + STOP_MARGIN_SECONDS for _, rows in tiers]
    return sum(steps) + SHUTDOWN_TIMEOUT_SECONDS


def _program(home: Path) -> list[str]:
    tool = paths.current_tool(home) or Path(sys.executable).with_name("bisnesctl")
    return [str(tool)] if tool.is_file() else [sys.executable, "-m", "bisnesctl"]


def _owner(deployment: Deployment) -> str:
    """The user whom the deployment belongs to."""
    settings = deployment.settings
    existing = next((each for each in (settings.home, settings.env_file) if each.exists()), None)
    uid = existing.stat().st_uid if existing is not None else os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _render(**values: object) -> str:
    import jinja2  # only needed here

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(paths.shipped_folder("conf") / "systemd"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the filters escape for systemd
    )
    environment.filters |= {"word": _word, "path": _path, "command_line": _command_line}
    return environment.get_template("bisnesctl.service.j2").render(**values)


def _word(text: object) -> str:
    """One word of a unit file, in quotes; `%` begins a specifier."""
    escaped = str(text).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _path(path: object) -> str:
    """A path that is a whole value: it has no quotes."""
    return str(path).replace("%", "%%")


def _command_line(words: list[str]) -> str:
    """A command; `$` begins a variable in it."""
    return " ".join(_word(each).replace("$", "$$") for each in words)
