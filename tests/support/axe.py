"""axe-core, which examines pages for barriers: fetched from the npm registry when a test first needs it."""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tests.support.browser import PageBrowser

VERSION = "4.10.3"
SHA256 = "880970c081707360e64f34cea25ff91892f5bc95675b0776925b9709dd8a68bb"
#: Seconds that npm may take.
FETCH_TIMEOUT_SECONDS = 300
#: The impacts of findings that no page may have.
SERIOUS = ("serious", "critical")
_KEPT = Path(sys.prefix) / "share" / "bisnesctl" / f"axe-core-{VERSION}.js"
_RUN = """
const done = arguments[arguments.length - 1]
const found = axe.run(document, { resultTypes: ["violations"] })
found.then((each) => done(each.violations), (error) => done(String(error)))
"""


class NotFetched(Exception):
    """axe-core could not be downloaded."""


def script() -> str:
    """The text of axe-core. Raises `NotFetched`; `ValueError` if it is not the one that was pinned."""
    if not _KEPT.exists():
        _fetch()
    content = _KEPT.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ValueError(f"{_KEPT} is not axe-core {VERSION}: remove it")
    return content.decode()


def _fetch() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        try:
            subprocess.run(
                ["npm", "pack", f"axe-core@{VERSION}", "--silent"], cwd=folder, env={**os.environ, "PATH": tools},
                timeout=FETCH_TIMEOUT_SECONDS, check=True, capture_output=True,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise NotFetched(f"npm could not download axe-core {VERSION}: {error}") from error
        with tarfile.open(Path(folder) / f"axe-core-{VERSION}.tgz") as package:
            member = package.extractfile("package/axe.min.js")
            assert member is not None
            content = member.read()
    _KEPT.parent.mkdir(parents=True, exist_ok=True)
    part = _KEPT.with_suffix(f".{os.getpid()}")
    part.write_bytes(content)
    part.replace(_KEPT)


def serious_findings(browser: PageBrowser) -> list[str]:
    """The serious findings about the page that is open, each with the first part of the page that has it."""
    browser.driver.execute_script(script())
    found: Any = browser.driver.execute_async_script(_RUN)
    if isinstance(found, str):
        raise AssertionError(f"axe-core failed: {found}")
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: {each['nodes'][0]['html']}"
        for each in found
        if each["impact"] in SERIOUS
    ]
