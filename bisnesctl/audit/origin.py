"""The user who types a command, and the place from which."""

import contextlib
import os
import pwd
from pathlib import Path

from bisnesctl.host import process_environment, process_stat
from bisnesctl.processes.stop_records import operator

#: The variables in which the dashboard names the person for whom it runs a command, and the person's address.
ACTOR_VARIABLE, ORIGIN_VARIABLE = "BISNES_DASHBOARD_PERSON", "BISNES_DASHBOARD_ORIGIN"
#: The login user of a process that no login started.
_NO_LOGIN = 0xFFFFFFFF
#: Variables of sshd; the first word is the address of the client.
_SSH = ("SSH_CONNECTION", "SSH_CLIENT")


def actor() -> str:
    """The user who typed this command; with the user of the login or of the process if that is another one.

    The variables of sudo can be set by anyone. The kernel's record of the login cannot, so it is named too. A command
    that the dashboard runs is the person's who is signed in there.
    """
    user, others = operator(), []
    login, own = _login(), _name(os.geteuid())
    if person := os.environ.get(ACTOR_VARIABLE):
        return f"{person} (dashboard, as {own})"
    if login and login != user:
        others.append(f"login {login}")
    if own != user:
        others.append(f"as {own}")
    return f"{user} ({', '.join(others)})" if others else user


def origin() -> str:
    """The terminal and the address of the ssh client; without a terminal the program that ran the command."""
    if given := os.environ.get(ORIGIN_VARIABLE):
        return given
    place = _terminal() or _parent()
    client = _ssh_client()
    return f"{place}, ssh {client}" if client else place


def _login() -> str:
    with contextlib.suppress(OSError, ValueError):
        uid = int(Path("/proc/self/loginuid").read_text())
        return "" if uid == _NO_LOGIN else _name(uid)
    return ""


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _terminal() -> str:
    for descriptor in (0, 2, 1):
        with contextlib.suppress(OSError):
            return os.ttyname(descriptor).removeprefix("/dev/")
    return ""


def _parent() -> str:
    with contextlib.suppress(OSError):
        return f"no terminal, run by {Path(f'/proc/{os.getppid()}/comm').read_text().strip()}"
    return "no terminal"


def _ssh_client() -> str:
    """The address of the ssh client, from the environment or, since sudo removes it, from that of a parent."""
    for pid in process_stat.ancestors(os.getpid()):
        environment = dict(os.environ) if pid == os.getpid() else process_environment.read(pid)
        for name in _SSH:
            if words := environment.get(name, "").split():
                return words[0]
    return ""
