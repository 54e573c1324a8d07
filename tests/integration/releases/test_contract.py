"""Whether a release and a database fit, by the contract steps of migrations, on a real database."""

from pathlib import Path

import pytest

from bisnesctl.database import migrations
from bisnesctl.errors import StartFailed
from bisnesctl.releases import contract
from bisnesctl.releases.store import InstalledRelease

EXPAND = "CREATE TABLE notes (id integer, colour text);\n"
CONTRACT = "-- contract since 0.3.0: nobody reads it\nALTER TABLE notes DROP COLUMN colour;\n"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The migrations of a release without the contract step, and of one with it."""
    found = tmp_path / "before", tmp_path / "after"
    for folder in found:
        folder.mkdir()
        (folder / "001_notes.sql").write_text(EXPAND)
    (found[1] / "002_colour.sql").write_text(CONTRACT)
    return found


def release(number: int, version: str) -> InstalledRelease:
    return InstalledRelease(number, Path(f"/releases/{number}"), version)


def test_a_release_may_not_remove_what_the_running_one_needs(empty_database: str, folders: tuple[Path, Path]) -> None:
    before, after = folders
    migrations.apply(empty_database, path=before)
    target = release(2, "0.4.0")
    with pytest.raises(StartFailed, match=r"too soon after release 1 \(0.2.1\): its 002_colour"):
        contract.check(empty_database, target, release(1, "0.2.1"), {1: before, 2: after})
    contract.check(empty_database, target, release(1, "0.3.0"), {1: before, 2: after})


def test_a_release_that_is_too_old_for_the_database_is_refused(
    empty_database: str, folders: tuple[Path, Path]
) -> None:  # fmt: skip
    before, after = folders
    migrations.apply(empty_database, path=after)
    running = release(2, "0.4.0")
    with pytest.raises(StartFailed, match=r"release 1 \(0.2.1\) cannot run on this database: 002_colour removed"):
        contract.check(empty_database, release(1, "0.2.1"), running, {1: before, 2: after})
    contract.check(empty_database, release(3, "0.3.0"), running, {2: after, 3: before})
