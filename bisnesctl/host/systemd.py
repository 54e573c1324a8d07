"""systemd, as far as a service and its installer need it."""

import contextlib
import os
import shutil
import socket
import subprocess
from pathlib import Path

from bisnesctl.errors import BisnesError, Conflict

#: The folder that exists if systemd is the init system.
BOOTED = Path("/run/systemd/system")
#: The folder of units of this machine.
SYSTEM_UNITS = Path("/etc/systemd/system")
#: Seconds that `systemctl` may take.
_TIMEOUT_SECONDS = 60


def is_running() -> bool:
    """Whether systemd is the init system of this machine."""
    return BOOTED.is_dir() and shutil.which("systemctl") is not None


def user_units() -> Path:
    """The folder of the units of this user."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def call(*words: str, user_unit: bool) -> None:
    """Runs `systemctl`. Raises `BisnesError` with its output."""
    command = ["systemctl", *(["--user"] if user_unit else []), *words]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Conflict(f"`{' '.join(command)}` did not work: {error}") from error
    if done.returncode:
        raise BisnesError(f"`{' '.join(command)}` failed: {(done.stderr or done.stdout).strip()}")


def notify(state: str) -> None:
    """Notifies systemd of the state of this service, such as `READY=1`; does nothing if it is none."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        sender.send(state.encode())
