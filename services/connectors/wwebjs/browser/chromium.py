"""The Chromium of a session: finding it, its arguments, its start, and the end of its process tree."""

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import structlog

from bisnesctl import paths
from bisnesctl.host.browsers import ProgramMissing
from services.connectors.wwebjs.browser import confinement, process_tree
from services.connectors.wwebjs.browser.session_clock import clock
from services.runtime import cpu_priority

#: The limit for `chromium --version`.
VERSION_TIMEOUT_SECONDS = 30.0
#: The consequence if the kernel cannot confine the browser, for an operator.
NOT_CONFINED_EFFECT = "every login of this machine can act as this user through the browser's ports"
#: Ends a program together with the thread that started it.
_TIED = ("setpriv", "--pdeathsig", "KILL", "--")

#: Measured: without a spare renderer and with the network service inside, Chromium needs a tenth less memory; without
#: the popups of the address bar, which nobody sees, 50 MB less, and half the CPU time for a launch.
_FEATURES_OFF = (
    "SpareRendererForSitePerProcess", "WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup",
    "Translate", "BackForwardCache", "MediaRouter", "OptimizationHints",
)  # fmt: skip
_ARGUMENTS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--remote-debugging-address=127.0.0.1",
    "--disable-gpu",
    "--disable-software-rasterizer",
    "--disable-extensions",
    "--disable-default-apps",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-breakpad",
    "--disable-crashpad-for-testing",  # two processes that would write dumps into the profile
    "--disable-dev-shm-usage",
    "--disable-blink-features=AutomationControlled",
    # Otherwise timers behind a hidden window run once a minute.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-hang-monitor",
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    "--mute-audio",
    "--hide-scrollbars",
    "--window-size=1280,900",
    "--lang=en-US",
    "--log-level=2",  # errors: the reasons of failed starts are errors
    f"--disable-features={','.join(_FEATURES_OFF)}",
    "--enable-features=NetworkServiceInProcess2",
    "--js-flags=--max-old-space-size=512 --optimize-for-size",
)
#: The prefix of each line of Chromium's log: process, time, level and place.
_PREFIX = re.compile(r"\A\[[\d:/.]+:[A-Z]+:[^\]]+\] ")
#: An error of the shell script around Chromium that some distributions install. It says nothing about Chromium.
_WRAPPER = re.compile(r"\A/\S+: (line )?\d+: ")
#: Errors of a profile whose files were damaged, such as by a full or failing disk.
_DAMAGE = re.compile(
    r"corrupt|checksum mismatch|no space left|input/output error|read-only file system|disk is full", re.I
)
#: The file in a profile for the output of Chromium.
LOG_FILE = "chromium.log"
#: Characters of a line of its output that a reason shows, at most.
MAX_WORDS_LENGTH = 200
#: Files of a Chromium that was killed, or ran on another host. The profile has a lock of our own.
_LEFTOVERS = ("SingletonLock", "SingletonSocket", "SingletonCookie", "DevToolsActivePort")

log = structlog.get_logger()


class StartFailed(Exception):
    """A program did not start; the text has its last words."""


class Program:
    """A program that reports its port once it is ready, and ends when this process ends."""

    def __init__(self, command: tuple[str, ...], log: Path, confinement: tuple[str, ...] = ()) -> None:
        """Start it as the leader of a session of its own. `log`: the file for its output, which is emptied first.

        `confinement`: the words in front of the command, see the module of this name. The program is killed when the
        thread that creates this object ends. Raises `StartFailed`.
        """
        self._name = Path(command[0]).name
        self._log = log
        with log.open("wb") as output:
            try:
                self._process = subprocess.Popen(
                    (*_TIED, *confinement, *command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    env={**os.environ, "TMPDIR": str(_make_temporary(log.parent))},
                )
            except OSError as error:
                raise StartFailed(f"{_TIED[0]}: {error.strerror}") from error
        cpu_priority.lower(self.pid)

    @property
    def pid(self) -> int:
        """Its process id, which is also the id of its session."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return not self.end

    @property
    def end(self) -> str:
        """How it ended, such as `SIGKILL` or `status 1`; empty while it runs.

        It stays a zombie until `kill`, so that its process id is not reused.
        """
        if self._process.returncode is not None:
            return "SIGKILL"
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return ""
        return f"status {found.si_status}" if found.si_code == os.CLD_EXITED else signal.Signals(found.si_status).name

    def port(self, file: Path, pattern: str, deadline: float) -> int:
        """The port, once `file` contains it in the form of `pattern`; `deadline` is in seconds.

        Raises `StartFailed` if the program ends before, or does not report its port in time.
        """
        until = clock.now() + deadline
        while clock.now() < until and self.alive:
            with contextlib.suppress(OSError):
                if found := re.search(pattern, file.read_text(errors="replace")):
                    return int(found[1])
            time.sleep(0.01)
        how = f"ended with {self.end}" if self.end else f"did not start within {deadline:.0f} s"
        raise StartFailed(f"{self._name} {how}{self._last_words()}")

    def wait(self, seconds: float) -> bool:
        """Whether it ends within `seconds`."""
        until = clock.now() + seconds
        while self.alive and clock.now() < until:
            time.sleep(0.01)
        return not self.alive

    def terminate(self) -> None:
        """Send it SIGTERM."""
        if self.alive:
            self._process.terminate()

    def kill(self) -> None:
        """End its process tree at once; may be called again.

        A process that cannot be killed is logged and left behind, so that the session continues.
        """
        if self._process.returncode is not None:
            return
        ended = process_tree.kill(self.pid)
        try:
            self._process.wait(process_tree.KILL_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            ended = False
        if not ended:
            log.error("program.kill_failed", program=self._name, pid=self.pid)

    def memory(self) -> int:
        """Bytes used by its process tree; shared pages count in proportion (PSS)."""
        return process_tree.memory(self.pid)

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").split("\n")
        except OSError:
            return ""
        lines = [each for each in lines if not (each.startswith("#") or "dbus/" in each or _WRAPPER.match(each))]
        texts = [_PREFIX.sub("", line).strip() for line in lines]
        words = [text[:MAX_WORDS_LENGTH] for text in texts if text][-3:]
        return f": {' / '.join(words)}" if words else ""


def launch(chromium: Path, profile: Path, further: tuple[str, ...], files: tuple[Path, ...] = ()) -> Program:
    """Start a Chromium that keeps its state in the folder `profile`, which is created and private.

    `files`: folders of the files that it may send. Raises `ProgramMissing` and `StartFailed`.
    """
    profile.mkdir(parents=True, exist_ok=True)
    profile.chmod(0o700)
    for name in _LEFTOVERS:
        (profile / name).unlink(missing_ok=True)
    remove_temporary(profile)
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    arguments = (*_ARGUMENTS, f"--user-agent={_user_agent(chromium)}", *sandbox, f"--user-data-dir={profile}", *further)
    if not confinement.is_possible():
        log.warning("browser.not_confined", reason="this kernel has no Landlock", effect=NOT_CONFINED_EFFECT)
    confined = confinement.of_chromium(chromium, (profile, _make_temporary(profile)), files, further)
    return Program((str(chromium), *arguments, "about:blank"), profile / LOG_FILE, confined)


def profile_damage(profile: Path) -> str:
    """The error by which the last Chromium reported that the profile is damaged; empty if it reported none."""
    with contextlib.suppress(OSError):
        for line in (profile / LOG_FILE).read_text(errors="replace").splitlines():
            if _DAMAGE.search(line):
                return _PREFIX.sub("", line).strip()[:MAX_WORDS_LENGTH]
    return ""


def temporary_folder(profile: Path) -> Path:
    """The folder for temporary files of the browser with this profile. Its path is short, because sockets lie in it."""
    return paths.private_tmp(profile)


def remove_temporary(profile: Path) -> None:
    """Remove the temporary files of a browser that has ended; a killed Chromium leaves them."""
    shutil.rmtree(temporary_folder(profile), ignore_errors=True)


def _make_temporary(profile: Path) -> Path:
    """The private folder for temporary files; the system's if it cannot be made, or another user owns it."""
    folder = temporary_folder(profile)
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid == os.geteuid() and not folder.is_symlink():
            return folder
    return Path(tempfile.gettempdir())


def debugger_port(program: Program, profile: Path, deadline: float) -> int:
    """The port on which a Chromium can be driven, once it listens. Raises `StartFailed`."""
    return program.port(profile / "DevToolsActivePort", r"\A(\d+)\n", deadline)


def version(chromium: Path) -> str:
    """The version, such as `156.0.7000.1`. Raises `ProgramMissing` if it does not run."""
    return _version(chromium, chromium.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _version(chromium: Path, _changed: int) -> str:
    try:
        command = (chromium, "--version")
        timeout = clock.stretched(VERSION_TIMEOUT_SECONDS)
        output = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ProgramMissing(f"{chromium} does not run: {error}; name another one: CHROME_PATH") from error
    found = re.search(r"\d+(?:\.\d+)+", output)
    if found is None:
        raise ProgramMissing(
            f"{chromium} is not Chromium, it prints {output.strip()[:80]!r}; name another: CHROME_PATH"
        )
    return found[0]


def _user_agent(chromium: Path) -> str:
    """The user agent of a Chromium with a window; without a window it would call itself headless."""
    major = version(chromium).partition(".")[0]
    system = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    return f"{system} Chrome/{major}.0.0.0 Safari/537.36"
