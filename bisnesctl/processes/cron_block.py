"""The lines that cron needs for a deployment, rendered from `conf/cron`. They need nothing of cron's environment."""

import os
import pwd
import shlex
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bisnesctl import paths
from bisnesctl.errors import ConfigError
from bisnesctl.host.crontab import MAX_LINE_BYTES
from bisnesctl.settings import Settings

if TYPE_CHECKING:
    import jinja2

#: The file of the probe's lines, below `log_dir`.
CRON_LOG = "cron.log"
#: The folders in which the system's programs are.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Marks:
    """The first and the last line of a deployment's block."""

    begin: str
    end: str


def marks(settings: Settings) -> Marks:
    """The marks of a deployment's block: another deployment of the same user has another block."""
    return Marks(f"# BEGIN bisnesctl {settings.env_file}", f"# END bisnesctl {settings.env_file}")


def render(settings: Settings, heal: bool, system: bool = False) -> list[str]:
    """The lines of the block. `system`: for /etc/cron.d, whose lines name the user.

    Raises `ConfigError` for a path that a crontab cannot express.
    """
    own = marks(settings)
    for path in (settings.env_file, settings.log_dir):
        if not str(path).isprintable():
            raise ConfigError(f"a crontab cannot express {str(path)!r}: use a path without control characters")
    text = _template().render(
        begin=own.begin,
        end=own.end,
        heal=heal,
        log=settings.log_dir / CRON_LOG,
        user=f"{_user().pw_name} " if system else "",
        command=_command(settings),
        minute=zlib.crc32(str(settings.env_file).encode()) % 60,  # deployments do not clean up all at once
    )
    lines = text.rstrip("\n").split("\n")
    for line in lines:
        if len(line.encode()) >= MAX_LINE_BYTES:
            raise ConfigError(f"a crontab cannot express this line, because it is too long: {line}. Use shorter paths")
    return lines


def _command(settings: Settings) -> str:
    """The beginning of every command. cron reads `%` as the end of a line."""
    release = paths.current_tool(settings.home)
    program = [str(release)] if release else [sys.executable, "-m", "bisnesctl"]
    folders = dict.fromkeys([str(Path(program[0]).parent), *SYSTEM_PATH.split(":")])
    environment = {"HOME": _user().pw_dir, "PATH": ":".join(folders), "BISNES_ENV": str(settings.env_file)}
    words = [
        "/usr/bin/env",
        *(f"{name}={text}" for name, text in environment.items()),
        *program,
    ]
    return shlex.join(words).replace("%", r"\%")


def _user() -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise ConfigError(
            f"user {os.geteuid()} has no entry in /etc/passwd, so cron cannot run as that user"
        ) from error


def _template() -> "jinja2.Template":
    import jinja2  # only needed to render

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(paths.shipped_folder("conf") / "cron"),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - a crontab, not a web page
    )  # fmt: skip
    return environment.get_template("bisnesctl.cron.j2")
