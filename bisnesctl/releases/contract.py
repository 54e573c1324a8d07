"""Whether a release can run on the database as it is, and the one that runs now on the database as it would be."""

from collections.abc import Mapping
from pathlib import Path

from bisnesctl.database import contract_steps, migrations
from bisnesctl.errors import StartFailed
from bisnesctl.releases.store import InstalledRelease


def check(dsn: str, release: InstalledRelease, running: InstalledRelease, folders: Mapping[int, Path]) -> None:
    """Raises `StartFailed` if one of them cannot. `folders`: the migrations of each by its number.

    A release that is older than a contract step cannot run on a database that has it.
    """
    states = [state for folder in set(folders.values()) for state in migrations.status(dsn, folder)]
    applied = {state.migration.version for state in states if state.applied_at is not None}
    for state in states:
        since = contract_steps.since(state.migration.sql)
        if since and state.migration.version in applied and _is_older(release, since):
            raise StartFailed(
                f"{release.name} cannot run on this database: {state.migration.name} removed what releases before "
                f"{since} need"
            )
    for state in migrations.status(dsn, folders[release.number]):
        since = contract_steps.since(state.migration.sql)
        if since and state.applied_at is None and _is_older(running, since):
            raise StartFailed(
                f"{release.name} comes too soon after {running.name}: its {state.migration.name} removes what releases "
                f"before {since} need, and they run until the switch. Switch to a release from {since} on that does "
                "not have that migration, then to this one"
            )


def _is_older(release: InstalledRelease, since: str) -> bool:
    return contract_steps.ordinal(release.version) < contract_steps.ordinal(since)
