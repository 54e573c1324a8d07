"""Releases to install and to switch to, made of this checkout. Their packages are those of the Python of the tests."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path

from bisnesctl.release import RECORD
from bisnesctl.releases.install import TESTED
from bisnesctl.releases.store import folder_name
from tests.support.waiting import HANG_SECONDS

CHECKOUT = Path(__file__).parents[2]
#: A package that makes those of the tests' Python importable, so that nothing is downloaded.
BORROWED = "borrowed-packages"
_NOT_COPIED = (".*", "build", "dist", "*.egg-info", "node_modules", "__pycache__", "tests", "var")

#: Bad releases: the code that is added to a module.
IMPORT_ERROR = {"services/api/app.py": "\nimport a_module_that_does_not_exist\n"}
FAILS_SELF_TEST = {
    "services/api/app.py": """
_good_create_app = create_app

def create_app(*args, **kwargs):
    app = _good_create_app(*args, **kwargs)
    app.before_request(lambda: ("not ready", 503))
    return app
"""
}


def failing_after(seconds: float) -> Mapping[str, str]:
    """A release whose API answers everything but its health with 500 after some seconds, and does not count that."""
    return {
        "services/api/asgi.py": f"""
_began = time.monotonic()

async def _bad(self, scope, receive, send, _good=AsgiApp.__call__):
    if scope["type"] == "http" and "/health" not in scope["path"] and time.monotonic() > _began + {seconds}:
        await send({{"type": "http.response.start", "status": 500, "headers": []}})
        await send({{"type": "http.response.body", "body": b"oops"}})
        return
    await _good(self, scope, receive, send)

AsgiApp.__call__ = _bad
"""
    }


def slow_by(seconds: float) -> Mapping[str, str]:
    """A release whose API takes longer for everything but its health."""
    return {
        "services/api/asgi.py": f"""
async def _bad(self, scope, receive, send, _good=AsgiApp.__call__):
    if scope["type"] == "http" and "/health" not in scope["path"]:
        await asyncio.sleep({seconds})
    await _good(self, scope, receive, send)

AsgiApp.__call__ = _bad
"""
    }


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout, which is said to be tested with `BORROWED` alone. See `pip_environment`."""
    source = folder / "source"
    shutil.copytree(CHECKOUT, source, ignore=shutil.ignore_patterns(*_NOT_COPIED), symlinks=True)
    words = ("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(source))
    subprocess.run([sys.executable, "-P", "-m", "pip", "-q", *words], check=True, timeout=10 * HANG_SECONDS)
    built = next(folder.glob("bisnesctl-*.whl"))
    borrowed = _borrowed_packages(folder / "index")
    line = f"{BORROWED}==1.0 --hash=sha256:{hashlib.sha256(borrowed.read_bytes()).hexdigest()}\n"
    return replace_in(built, {TESTED: line})


def replace_in(wheel: Path, files: Mapping[str, str]) -> Path:
    """Replaces files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in (contents | {name: text.encode() for name, text in files.items()}).items():
            archive.writestr(name, content)
    return wheel


def pip_environment(folder: Path) -> dict[str, str]:
    """The variables with which pip finds the packages of `build_wheel(folder)`, and no others."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder / "index"), "PIP_CONFIG_FILE": os.devnull}


def clone(home: Path, number: int, added: Mapping[str, str]) -> int:
    """Makes another release of an installed one, with code added to some of its modules; returns its number."""
    releases = home / "releases"
    fresh = max(int(each.name) for each in releases.iterdir() if each.name.isdecimal()) + 1
    before, after = releases / folder_name(number), releases / folder_name(fresh)
    shutil.copytree(before, after, symlinks=True)
    record = json.loads((after / RECORD).read_text()) | {"number": fresh}
    (after / RECORD).write_text(json.dumps(record))
    script = after / "bin" / "bisnesctl"
    script.write_text(script.read_text().replace(str(before), str(after)))
    packages = next(after.glob("lib/python*/site-packages"))
    for name, code in added.items():
        module = packages / name
        module.write_text(module.read_text() + code)
    return fresh


def add_migration(home: Path, number: int, sql: str) -> None:
    """Adds a migration to an installed release, after all others."""
    folder = next((home / "releases" / folder_name(number)).rglob("001_*.sql")).parent
    (folder / "999_added.sql").write_text(sql)


def _borrowed_packages(folder: Path) -> Path:
    """A wheel with nothing but the path of the packages of this Python."""
    folder.mkdir()
    name = re.sub("-", "_", BORROWED)
    about = f"Metadata-Version: 2.1\nName: {BORROWED}\nVersion: 1.0\n"
    files = {
        f"{name}.pth": f"{sysconfig.get_paths()['purelib']}\n",
        f"{name}-1.0.dist-info/METADATA": about,
        f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{name}-1.0.dist-info/RECORD"] = "".join(f"{each},,\n" for each in [*files, f"{name}-1.0.dist-info/RECORD"])
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for each, text in files.items():
            archive.writestr(each, text)
    return wheel
