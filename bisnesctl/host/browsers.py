"""Finds the installed Chromium and its ChromeDriver."""

import shutil
from pathlib import Path

#: The names under which the programs are looked for, in this order.
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_DRIVER = ("chromedriver", "/usr/lib/chromium/chromedriver", "/usr/lib/chromium-browser/chromedriver")


class ProgramMissing(Exception):
    """A program is not installed; the text says what to do."""


def find_chromium(wanted: Path | None) -> Path:
    """The Chromium to run: that of CHROME_PATH, or else the installed one. Raises `ProgramMissing`."""
    return _find(wanted, "CHROME_PATH", _CHROMIUM, "Chromium", "chromium")


def find_driver(wanted: Path | None) -> Path:
    """Its ChromeDriver: that of CHROMEDRIVER_PATH, or else the installed one. Raises `ProgramMissing`."""
    return _find(wanted, "CHROMEDRIVER_PATH", _DRIVER, "ChromeDriver", "chromium-driver")


def _find(wanted: Path | None, setting: str, names: tuple[str, ...], what: str, package: str) -> Path:
    if wanted is not None:
        if shutil.which(wanted) is None:
            raise ProgramMissing(f"{setting}={wanted} is no program; name another one, or leave it empty")
        return wanted
    for name in names:
        if found := shutil.which(name):
            return Path(found)
    raise ProgramMissing(f"{what} is not installed: run scripts/provision, install {package}, or set {setting}")
