"""Checks for WhatsApp Web: Chromium, its driver, its sandbox, and wa-js."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from bisnesctl import wajs
from bisnesctl.doctor.finding import Finding, error, ok, warning
from bisnesctl.doctor.subject import Subject
from bisnesctl.errors import ConfigError
from bisnesctl.formatting import size
from bisnesctl.host import browsers, confine

#: Seconds for a program that prints its version.
VERSION_TIMEOUT_SECONDS = 6
#: Free bytes of /dev/shm that are enough; Chromium itself does not use it.
SHARED_MEMORY_BYTES = 16 << 20
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
_SANDBOX_PROGRAMS = ("/usr/lib/chromium/chrome-sandbox", "/opt/google/chrome/chrome-sandbox")


def no_web(subject: Subject) -> str:
    """Why WhatsApp Web is not examined; empty if it is used."""
    return "" if subject.settings.enable_wwebjs else "ENABLE_WWEBJS is false"


def chromium(subject: Subject) -> Finding:
    """Chromium is installed and runs."""
    try:
        path = browsers.find_chromium(subject.settings.chrome_path)
        return ok(f"{_version(path)} ({path})")
    except (browsers.ProgramMissing, OSError, subprocess.SubprocessError) as problem:
        return warning(f"{problem}", "it runs, for WhatsApp Web numbers", "scripts/provision")


def driver(subject: Subject) -> Finding:
    """ChromeDriver is installed and has the version of Chromium."""
    settings = subject.settings
    try:
        one = _version(browsers.find_chromium(settings.chrome_path))
        other = _version(browsers.find_driver(settings.chromedriver_path))
    except (browsers.ProgramMissing, OSError, subprocess.SubprocessError) as problem:
        return warning(f"{problem}", "it runs, for WhatsApp Web numbers", "scripts/provision")
    if one.partition(".")[0] != other.partition(".")[0]:
        fix = "scripts/provision, or set CHROME_PATH and CHROMEDRIVER_PATH to programs of one version"
        return error(f"ChromeDriver {other} does not match Chromium {one}", "the same major version", fix)
    return ok(f"{other}, as Chromium")


def _version(program: Path) -> str:
    done = subprocess.run(
        [str(program), "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_SECONDS, check=False
    )
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    if done.returncode or found is None:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise browsers.ProgramMissing(f"{program} does not run: {said[-1] if said else f'status {done.returncode}'}")
    return found[0]


def wa_js(subject: Subject) -> Finding:
    """The pinned wa-js is there, byte for byte."""
    try:
        path = wajs.bundle(subject.settings)
    except ConfigError as problem:
        return error(str(problem), f"wa-js {wajs.VERSION}", "bisnesctl wa-js fetch")
    if subject.settings.wa_js_path is not None:
        return warning(
            f"WA_JS_PATH names {path}, which is not checked", f"wa-js {wajs.VERSION}", "leave WA_JS_PATH empty"
        )
    return ok(f"{wajs.VERSION} ({path})")


def sandbox(_: Subject) -> Finding:
    """Chromium can confine its pages: not as root, with user namespaces or its set-user-ID program."""
    if os.geteuid() == 0:
        fix = "make a user, such as `useradd --system --create-home bisnes`, and start as it"
        return warning("root runs Chromium without its own sandbox", "a user of its own", fix)
    if any(Path(each).exists() and Path(each).stat().st_mode & 0o4000 for each in _SANDBOX_PROGRAMS):
        return ok("by its set-user-ID program")
    unshare = shutil.which("unshare")
    if unshare and subprocess.run([unshare, "--user", "true"], capture_output=True, timeout=5, check=False).returncode:
        fix = (
            "apt install chromium-sandbox, or sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000"
        )
        return error("this user may not make user namespaces, and chromium-sandbox is missing", "one of the two", fix)
    return ok("by user namespaces")


def landlock(_: Subject) -> Finding:
    """The kernel can confine browsers (Landlock)."""
    found = confine.version()
    if not found:
        fix = "use Linux 5.13 or newer with lsm=landlock,… on its command line; see `bisnesctl help security`"
        return warning("this kernel has no Landlock: every login can use the browsers' ports", "Landlock", fix)
    return ok(f"version {found}")


def shared_memory(_: Subject) -> Finding:
    """The shared memory of the system can be written."""
    if not SHARED_MEMORY.is_dir() or not os.access(SHARED_MEMORY, os.W_OK):
        fix = "mount -t tmpfs -o mode=1777 tmpfs /dev/shm"
        return warning(f"{SHARED_MEMORY} cannot be written", "a tmpfs with mode 1777", fix)
    found = os.statvfs(SHARED_MEMORY)
    free = found.f_bavail * found.f_frsize
    if free < SHARED_MEMORY_BYTES:
        return warning(
            f"{size(free)} are free in /dev/shm", size(SHARED_MEMORY_BYTES), "remove old files from /dev/shm"
        )
    return ok(f"{size(free)} free in /dev/shm")
