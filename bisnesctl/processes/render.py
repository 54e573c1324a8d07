"""Turns settings and topology into configuration files for supervisord.

In supervisord's syntax `%` begins an expansion, `;` and `#` after any blank of Unicode begin a comment, and values are
unquoted twice. The filters of the template escape accordingly.
"""

import json
import os
import re
import resource
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from bisnesctl import paths
from bisnesctl.errors import ConfigError
from bisnesctl.host import disk
from bisnesctl.processes.topology import Instance, Program
from bisnesctl.settings import Settings

if TYPE_CHECKING:
    import jinja2

#: The rendered configuration file, below `run_dir`.
SUPERVISORD_CONF = "supervisord.conf"
#: Folder of the sessions' files, below `run_dir`; the configuration includes them by this relative path.
SESSIONS = "sessions"
#: Seconds beyond a program's kill timeout after which supervisord kills a shim that has not ended it.
_SHIM_MARGIN_SECONDS = 2
#: The beginning of a comment. The blank may be any that `str.isspace` knows.
_COMMENT = re.compile(r"([\s\x1c-\x1f])([;#])")
#: Files that supervisord may hold open: four for each process, and a few more.
MAX_OPEN_FILES = 4096


@dataclass(frozen=True)
class File:
    """A file to write; `name` is relative to the caller's folder."""

    name: str
    content: str
    mode: int = 0o600

    def write(self, directory: Path) -> Path:
        """Writes the file to `directory` atomically. Raises `CannotWrite`."""
        path = directory / self.name
        with disk.writing(path):
            disk.replace(path, self.content.encode(), self.mode)
        return path


@dataclass(frozen=True)
class Group:
    """One section of supervisord's configuration: one instance, or all instances that share a socket."""

    name: str
    program: Program
    size: int
    command: tuple[str, ...]
    environment: dict[str, str]
    directory: Path
    user: str | None
    address: str
    #: Folder and name of the log files without suffix, which is the name of the processes; `%(process_num)d` stands for
    #: the number.
    log: tuple[Path, str]

    @property
    def stop_timeout(self) -> int:
        """Seconds after which supervisord kills it."""
        return self.program.kill_timeout + (_SHIM_MARGIN_SECONDS if self.program.has_children else 0)


def write_config(
    settings: Settings, instances: Sequence[Instance], directory: Path, server_variables: dict[str, str]
) -> list[Path]:
    """Writes supervisord's configuration for these instances to `directory` and returns the paths.

    Raises `CannotWrite`; `ConfigError` as `render` does.
    """
    files = render(settings, instances, server_variables)
    with disk.writing(directory / SESSIONS):
        (directory / SESSIONS).mkdir(mode=0o700, parents=True, exist_ok=True)
    return [file.write(directory) for file in files]


def render(settings: Settings, instances: Sequence[Instance], server_variables: dict[str, str]) -> list[File]:
    """supervisord's configuration for these instances: one file, and one more for each session.

    `server_variables`: those of `embedded_servers.command_variables`. Raises `ConfigError` for a path that
    supervisord's syntax cannot express, or if setpriv is not installed.
    """
    variables = _own_variables() | server_variables
    static = [each for each in instances if not each.program.dynamic]
    groups = [_group(list(members), settings, variables) for _, members in groupby(static, key=lambda each: each.group)]
    daemon = {
        "socket": paths.supervisor_socket(settings.run_dir),
        "pidfile": settings.run_dir / "supervisord.pid",
        "log_dir": settings.log_dir,
        "minfds": _minfds(),
        "user": "root" if os.geteuid() == 0 else None,
        "sessions": SESSIONS,
    }
    text = _template().render(daemon=daemon, groups=groups)
    sessions = [render_session(settings, each) for each in instances if each.program.dynamic]
    return [File(SUPERVISORD_CONF, text), *sessions]


def render_session(settings: Settings, instance: Instance) -> File:
    """The file of one session. Its first line names the bot. Raises `ConfigError` as `render` does."""
    group = _group([instance], settings, _own_variables())
    text = _template().render(daemon=None, groups=[group])
    number = json.dumps([instance.variables["company"], int(instance.variables["phone"])])
    return File(f"{SESSIONS}/{instance.name}.conf", f"; {number}\n{text}")


def _group(members: list[Instance], settings: Settings, variables: dict[str, str]) -> Group:
    first, program = members[0], members[0].program
    name = f"{first.group}-%(process_num)d" if program.is_shared else first.name
    environment = dict(first.environment)
    if "BISNES_INSTANCE" in environment:
        environment["BISNES_INSTANCE"] = name
        environment["PYTHONUNBUFFERED"] = "1"
    return Group(
        name=first.group,
        program=program,
        size=len(members),
        command=_command(program, settings, variables | first.variables),
        environment=environment,
        directory=paths.postgres_data(settings.server_home).parent if program.is_server else settings.home,
        user=(variables["server_user"] or None) if program.is_server else None,
        address=first.address,
        log=(settings.log_dir, name),
    )


def _command(program: Program, settings: Settings, variables: dict[str, str]) -> tuple[str, ...]:
    """The command line, wrapped so that the process stops when supervisord dies, even by SIGKILL."""
    command = own_command(program, settings, variables)
    if program.has_children:
        spared = [f"--spare={program.spared_child}"] if program.spared_child else []
        command = (variables["python"], "-I", "-S", variables["shim"], *spared, str(program.kill_timeout), *command)
    return (variables["setpriv"], "--pdeathsig", program.stop_signal, "--", *command)


def own_command(program: Program, settings: Settings, variables: Mapping[str, str]) -> tuple[str, ...]:
    """The command line of a program without what is wrapped around it. `variables`: those of `render`, and its own."""
    values = {"python": sys.executable, **settings.model_dump(), **variables}
    return tuple(word.format_map(values) for word in shlex.split(program.command))


def _template() -> "jinja2.Template":
    import jinja2  # only needed to render; many modules import this one for its constants

    # No autoescape: these are not web pages; the filters escape for supervisord.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(paths.shipped_folder("conf") / "supervisord"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701
    )
    environment.filters |= {"value": value, "command_line": command_line, "pairs": pairs, "logfile": logfile}
    return environment.get_template("supervisord.conf.j2")


def value(given: object) -> str:
    """A value that supervisord expands once. Raises `ConfigError` if its syntax cannot express the value."""
    text = str(given)
    if _COMMENT.search(f" {text}") or text != text.strip() or "\n" in text or "\r" in text:
        raise ConfigError(
            f"supervisord cannot express {text!r}: it must not contain line breaks, or ; or # after a space"
        )
    return text.replace("%", "%%")


def command_line(command: Sequence[str]) -> str:
    """A command line in which each word stays one word."""
    quoted = " ".join(_quote(word) for word in command)
    return value(quoted)


def _quote(word: str) -> str:
    # A comment begins at a blank and a semicolon, even inside quotes: a pair of quotes goes between them.
    return _COMMENT.sub(r"\1''\2", shlex.quote(word))


def pairs(environment: dict[str, str]) -> str:
    """NAME="value" pairs. supervisord expands `%(process_num)d` in BISNES_INSTANCE."""
    return ",".join(f'{name}="{_pair(name, each)}"' for name, each in environment.items())


def _pair(name: str, text: str) -> str:
    if '"' in text:
        raise ConfigError(f"supervisord cannot express {name}={text!r}: it must not contain double quotes")
    return text if name == "BISNES_INSTANCE" else value(text)


def logfile(where: tuple[Path, str]) -> str:
    """The path of a log file, which supervisord expands twice; the name may contain `%(process_num)d`."""
    directory, name = where
    return f"{value(value(directory))}/{name}"


def _own_variables() -> dict[str, str]:
    """Values for placeholders in commands, and for the wrappers around commands."""
    return {"python": sys.executable, "setpriv": _setpriv(), "shim": str(Path(__file__).with_name("shim.py"))}


def _setpriv() -> str:
    found = shutil.which("setpriv", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")
    if found is None:
        raise ConfigError("the program setpriv is missing: install the package util-linux")
    return found


def _minfds() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, hard)
