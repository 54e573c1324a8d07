"""The Chromium of a session: which one is run and how, its start, and its end with everything that it started."""

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import structlog

from services.connectors.wwebjs.browser import cpu_priority, process_tree
from services.connectors.wwebjs.browser.session_clock import clock

#: Where the programs are looked for, in this order.
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_DRIVER = ("chromedriver", "/usr/lib/chromium/chromedriver", "/usr/lib/chromium-browser/chromedriver")
#: Seconds that Chromium may take to say its version.
VERSION_TIMEOUT_SECONDS = 30.0
#: Lets a program end when the thread that started it does.
_TIED = ("setpriv", "--pdeathsig", "KILL", "--")

#: Measured: without a spare renderer and with the network service inside, Chromium needs a tenth less memory; without
#: the popups of an address bar that nobody sees, 50 MB less, and half the processor's time for a launch.
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
    # What runs behind a hidden window would be slowed down to a turn a minute.
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
    "--log-level=2",  # errors: what keeps it from starting is one
    f"--disable-features={','.join(_FEATURES_OFF)}",
    "--enable-features=NetworkServiceInProcess2",
    "--js-flags=--max-old-space-size=512 --optimize-for-size",
)
#: What Chromium says before each line of its log: process, time, level and place.
_PREFIX = re.compile(r"\A\[[\d:/.]+:[A-Z]+:[^\]]+\] ")
#: What a Chromium of another host, or one that was killed, leaves behind. Our own lock is on the profile.
_LEFTOVERS = ("SingletonLock", "SingletonSocket", "SingletonCookie", "DevToolsActivePort")

log = structlog.get_logger()


class ProgramMissing(Exception):
    """A program is not installed; the text says what to do."""


class StartFailed(Exception):
    """A program did not start; the text says what it said."""


class Program:
    """A program that tells its port when it is ready, and ends when we do."""

    def __init__(self, command: tuple[str, ...], log: Path) -> None:
        """Start it as the leader of a session of its own. `log` takes what it says and is emptied before.

        It is killed when the thread that makes this object ends. Raises `StartFailed`.
        """
        self._name, self._log = Path(command[0]).name, log
        with log.open("wb") as said:
            try:
                self._process = subprocess.Popen(
                    (*_TIED, *command),
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    start_new_session=True,
                )
            except OSError as error:
                raise StartFailed(f"{_TIED[0]}: {error.strerror}") from error
        cpu_priority.lower(self.pid)

    @property
    def pid(self) -> int:
        """Its number, and that of its session."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return not self.end

    @property
    def end(self) -> str:
        """How it ended, such as `SIGKILL` or `status 1`; empty while it runs.

        It stays a zombie until `kill`, so that its number is nobody else's.
        """
        if self._process.returncode is not None:
            return "SIGKILL"
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return ""
        return f"status {found.si_status}" if found.si_code == os.CLD_EXITED else signal.Signals(found.si_status).name

    def port(self, told: Path, pattern: str, deadline: float) -> int:
        """The port, once the file `told` has it in the way of `pattern`; `deadline` is in seconds.

        Raises `StartFailed` where it ends before, or does not tell it in time.
        """
        until = clock.now() + deadline
        while clock.now() < until and self.alive:
            with contextlib.suppress(OSError):
                if found := re.search(pattern, told.read_text(errors="replace")):
                    return int(found[1])
            time.sleep(0.01)
        how = f"ended with {self.end}" if self.end else f"did not start within {deadline:.0f} s"
        raise StartFailed(f"{self._name} {how}{self._last_words()}")

    def wait(self, seconds: float) -> bool:
        """Whether it ends within that time."""
        until = clock.now() + seconds
        while self.alive and clock.now() < until:
            time.sleep(0.01)
        return not self.alive

    def terminate(self) -> None:
        """Ask it to end."""
        if self.alive:
            self._process.terminate()

    def kill(self) -> None:
        """End it and everything that it started, at once; may be called again.

        What cannot be killed is reported and left behind, so that the session goes on.
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
        """Bytes of it and everything that it started, of shared pages its share (PSS)."""
        return process_tree.memory(self.pid)

    def _last_words(self) -> str:
        try:
            said = self._log.read_text(errors="replace").split("\n")
        except OSError:
            return ""
        told = [_PREFIX.sub("", line).strip() for line in said if not line.startswith("#") and "dbus/" not in line]
        words = [line[:200] for line in told if line][-3:]
        return f": {' / '.join(words)}" if words else ""


def find_chromium(wanted: Path | None) -> Path:
    """The Chromium to run: the one that CHROME_PATH names, else the one that is installed. Raises `ProgramMissing`."""
    return _find(wanted, "CHROME_PATH", _CHROMIUM, "Chromium", "chromium")


def find_driver(wanted: Path | None) -> Path:
    """Its ChromeDriver: the one of CHROMEDRIVER_PATH, else the one that is installed. Raises `ProgramMissing`."""
    return _find(wanted, "CHROMEDRIVER_PATH", _DRIVER, "ChromeDriver", "chromium-driver")


def launch(chromium: Path, profile: Path, further: tuple[str, ...]) -> Program:
    """Start a Chromium that keeps its state in `profile`, a folder that is made, for our eyes only.

    Raises `ProgramMissing` and `StartFailed`.
    """
    profile.mkdir(parents=True, exist_ok=True)
    profile.chmod(0o700)
    for name in _LEFTOVERS:
        (profile / name).unlink(missing_ok=True)
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    arguments = (*_ARGUMENTS, f"--user-agent={_user_agent(chromium)}", *sandbox, f"--user-data-dir={profile}", *further)
    return Program((str(chromium), *arguments, "about:blank"), profile / "chromium.log")


def debugger_port(program: Program, profile: Path, deadline: float) -> int:
    """The port on which a Chromium can be driven, once it listens. Raises `StartFailed`."""
    return program.port(profile / "DevToolsActivePort", r"\A(\d+)\n", deadline)


def version(chromium: Path) -> str:
    """Such as `156.0.7000.1`. Raises `ProgramMissing` where it does not run."""
    return _version(chromium, chromium.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _version(chromium: Path, _changed: int) -> str:
    try:
        asked = (chromium, "--version")
        timeout = clock.stretched(VERSION_TIMEOUT_SECONDS)
        said = subprocess.run(asked, capture_output=True, text=True, timeout=timeout, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ProgramMissing(f"{chromium} does not run: {error}; name another one: CHROME_PATH") from error
    found = re.search(r"\d+(?:\.\d+)+", said)
    if found is None:
        raise ProgramMissing(f"{chromium} is no Chromium, it says {said.strip()[:80]!r}; name another: CHROME_PATH")
    return found[0]


def _user_agent(chromium: Path) -> str:
    """What Chromium with a window says: the one without would call itself headless."""
    major = version(chromium).partition(".")[0]
    system = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    return f"{system} Chrome/{major}.0.0.0 Safari/537.36"


def _find(wanted: Path | None, setting: str, names: tuple[str, ...], what: str, package: str) -> Path:
    if wanted is not None:
        if shutil.which(wanted) is None:
            raise ProgramMissing(f"{setting}={wanted} is no program; name another one, or leave it empty")
        return wanted
    for name in names:
        if found := shutil.which(name):
            return Path(found)
    raise ProgramMissing(f"{what} is not installed: run scripts/provision, install {package}, or set {setting}")
