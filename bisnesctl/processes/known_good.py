"""A copy of the code that ran last, from which the legacy process is started if the code on the disk is broken.

`start` makes it once everything that it started is healthy. It is a folder below the home with the packages, named by
the content of the original.
"""

import contextlib
import hashlib
import importlib.util
import os
import shutil
from dataclasses import replace
from pathlib import Path

from bisnesctl.paths import shipped_folder
from bisnesctl.processes.topology import Instance

#: The folder of copies, below the home.
FOLDER = "known-good"
#: The file that says that the legacy process runs from the copy, below `run_dir`.
MARK = "known-good.path"
#: The packages that a process loads, and folders of shipped files that lie beside them in a checkout.
PACKAGES, SHIPPED = ("services", "bisnesctl"), ("conf", "sql")


def save(home: Path) -> None:
    """Makes a copy of the code, unless there is one of the same files. A full disk must not prevent a start."""
    sources = _sources()
    target = home / FOLDER / _signature(sources)
    if target.exists():
        return
    fresh = target.with_name(".new")
    with contextlib.suppress(OSError, shutil.Error):
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700, parents=True)
        for source in sources:
            shutil.copytree(source, fresh / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        older = list(target.parent.glob("[!.]*"))
        fresh.rename(target)
        for each in older:
            shutil.rmtree(each, ignore_errors=True)


def find(home: Path) -> Path | None:
    """The copy; None if there is none, or if it equals the code on the disk."""
    found = next(iter(sorted((home / FOLDER).glob("[!.]*"))), None)
    return None if found is None or found.name == _signature(_sources()) else found


def use(run_dir: Path, copy: Path | None) -> None:
    """Has the legacy process start from the copy; None: from the code on the disk. Raises `OSError`."""
    if copy is None:
        (run_dir / MARK).unlink(missing_ok=True)
    else:
        (run_dir / MARK).write_text(str(copy))


def applied(run_dir: Path, instances: list[Instance]) -> list[Instance]:
    """The instances, of which the legacy process loads the copy if it is in use."""
    try:
        copy = (run_dir / MARK).read_text()
    except OSError:
        return instances
    return [
        replace(each, environment={**each.environment, "PYTHONPATH": copy}) if each.program.name == "legacy" else each
        for each in instances
    ]


def _sources() -> list[Path]:
    found = [
        Path(place)
        for package in PACKAGES
        if (spec := importlib.util.find_spec(package)) is not None
        for place in spec.submodule_search_locations or ()
    ]
    return found + [shipped_folder(name) for name in SHIPPED if shipped_folder(name).parent not in found]


def _signature(sources: list[Path]) -> str:
    """Of the paths, sizes and times of all files: to read them all would take too long."""
    digest = hashlib.sha256()
    for source in sources:
        for folder, folders, files in os.walk(source):
            folders[:] = sorted(each for each in folders if each != "__pycache__")
            for name in sorted(files):
                path = Path(folder, name)
                found = path.stat()
                digest.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
