"""The answer to a command in a folder where nothing was ever started: one line that says what to type."""

from collections.abc import Sequence

from bisnesctl.errors import NoDeployment
from bisnesctl.settings import Settings

_ELSEWHERE = "change to the folder of your deployment, or name its .env with BISNES_ENV"
#: Homes that are named, at most.
_MAX_HOMES = 3
_START = "`bisnesctl start --multiprocess`"


def absence(settings: Settings, running: Sequence[str] = ()) -> NoDeployment:
    """The error. `running`: homes in which this user runs a deployment."""
    elsewhere = f"{_ELSEWHERE} (yours run in {', '.join(running[:_MAX_HOMES])})" if running else _ELSEWHERE
    if settings.env_file.exists() or settings.is_given("encryption_key"):
        return NoDeployment(f"nothing was started in {settings.home} yet: {_START}; or {elsewhere}")
    folder = settings.env_file.parent
    return NoDeployment(
        f"there is no deployment in {folder}: {elsewhere}; or make one here: `bisnesctl init`, then {_START}"
    )
