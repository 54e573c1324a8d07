"""What was started here last: the file `run/mode.json`. It answers when everything else is away."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bisnesctl.host import disk
from bisnesctl.processes.render import File
from bisnesctl.processes.topology import Instance, Mode, in_mode
from bisnesctl.settings import Settings

_NAME = "mode.json"


@dataclass(frozen=True)
class LastStart:
    """How the deployment was started."""

    mode: Mode
    sandbox: bool
    #: The names that `--only` limited it to; none: all.
    only: tuple[str, ...] = ()
    #: Seconds since the epoch when it was started or changed its mode; 0 where it was stopped on purpose.
    since: float = 0.0

    def expected(self, instances: list[Instance]) -> list[Instance]:
        """The instances that ought to run."""
        return in_mode(instances, self.mode, self.only)


def read(run_dir: Path) -> LastStart | None:
    """What was started last; none where nothing ever was, or the file is no good."""
    try:
        found = json.loads((run_dir / _NAME).read_text())
        return LastStart(Mode(found["mode"]), bool(found["sandbox"]), tuple(found["only"]), float(found["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(run_dir: Path, mode: Mode, sandbox: bool, only: tuple[str, ...]) -> None:
    """Notes what runs from now on; what runs so already keeps its time."""
    old = read(run_dir)
    if old is None or not old.since or (old.mode, old.sandbox, old.only) != (mode, sandbox, only):
        File(_NAME, json.dumps(asdict(LastStart(mode, sandbox, only, time.time())))).write(run_dir)


def forget_since(run_dir: Path) -> None:
    """Notes that it was stopped on purpose. Raises `CannotWrite`."""
    old = read(run_dir)
    if old is not None:
        content = json.dumps(asdict(LastStart(old.mode, old.sandbox, old.only))).encode()
        with disk.writing(run_dir / _NAME):
            disk.refresh(run_dir / _NAME, content)  # on a full disk too


def with_sandbox(settings: Settings, state: LastStart | None) -> Settings:
    """The settings as the running deployment has them: it may have been started with `--sandbox`."""
    sandbox = settings.sandbox or bool(state and state.sandbox)
    return settings.copy_with(sandbox=sandbox)
