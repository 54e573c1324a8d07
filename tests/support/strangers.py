"""Folders of tests that another user of the machine may use."""

from pathlib import Path


def let_in(folder: Path) -> None:
    """Let every user enter a folder. pytest's own folders above it are closed."""
    for each in (folder, *folder.parents):
        if not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o011)
