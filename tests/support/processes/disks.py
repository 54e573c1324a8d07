"""Small disks of a test's own, which it fills or makes read-only.

They are real: a tmpfs below the test's folder. If the tests do not run as root, such a test is run once more, by
`again_in_a_namespace`, as root of a namespace of its own (unshare(1)).
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

#: For tests that mount: an ordinary user has them run by `again_in_a_namespace`.
mounts = pytest.mark.skipif(os.geteuid() != 0, reason="run in a namespace by again_in_a_namespace")


def again_in_a_namespace(file: str, selection: str = "") -> None:
    """Run a file's tests as root of a namespace, unless they run as root anyway."""
    if os.geteuid() == 0:
        return
    command = ["unshare", "--map-root-user", "--mount", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *(["-k", selection] if selection else []), file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


class Disk:
    """A file system of a few megabytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Leave not one byte."""
        with contextlib.suppress(OSError), (self.folder / "ballast").open("ab", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while ballast.write(b"x" * size) == size:
                        pass

    def free(self) -> None:
        """Give the space back."""
        (self.folder / "ballast").unlink(missing_ok=True)

    def read_only(self) -> None:
        """Forbid writing. Files that are open for it would not let the disk be remounted, so a read-only view of it is
        mounted over it: files that are opened from now on are read-only."""
        # The view is made elsewhere first: a process could open a file between the mount and its change.
        view = self.folder.with_name(f"{self.folder.name}-view")
        view.mkdir(exist_ok=True)
        _mount("--bind", str(self.folder), str(view))
        _mount("-o", "remount,bind,ro", str(view))
        _mount("--bind", str(view), str(self.folder))
        subprocess.run(["umount", str(view)], check=True)

    def writable(self) -> None:
        """Allow writing again."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int = 8, inodes: int | None = None) -> Iterator[Disk]:
    """A small disk at this folder, which is made; gone at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={megabytes}m,mode=755" + (f",nr_inodes={inodes}" if inodes else "")
    _mount("-t", "tmpfs", "-o", options, "bisnes-test", str(folder))
    disk = Disk(folder)
    try:
        yield disk
    finally:
        while folder.is_mount():
            disk.writable()
