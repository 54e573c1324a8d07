"""Has a switch of releases finished or undone whose command was killed."""

import os
import subprocess
import sys
import time

import structlog

from bisnesctl.audit import trail
from bisnesctl.audit.record import Source
from bisnesctl.host import disk
from bisnesctl.processes import switch_records
from bisnesctl.processes.switch_records import SwitchRecord
from bisnesctl.settings import Settings

#: The command that does it, and the file with its lines, below the folder of logs.
COMMAND, LOG = ("release", "rollback", "--unfinished"), "release.log"
#: Seconds between two attempts.
PAUSE_SECONDS = 60.0

log = structlog.get_logger()


class InterruptedSwitch:
    """Looks for a switch that was interrupted, and starts the command that puts it right.

    The command is a process of its own, which outlives this guard: it may have to replace it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._child: subprocess.Popen[bytes] | None = None
        self._next = 0.0  # when it may be tried again, in monotonic seconds

    def look(self) -> None:
        """Starts the command if there is something to put right and it does not run."""
        if self._child is not None and self._child.poll() is None:
            return
        record = switch_records.read(self._settings.home)
        if record is not None and record.interrupted and time.monotonic() >= self._next:
            self._next = time.monotonic() + PAUSE_SECONDS
            self._start(record)

    def _start(self, record: SwitchRecord) -> None:
        reason = f"`{record.command}` was interrupted while it was {record.stage}"
        log.warning("switch.interrupted", command=record.command, stage=record.stage.value)
        trail.add_decision(self._settings.home, Source.GUARD, "switch_settled", record.command, reason)
        environment = {**os.environ, "BISNES_ENV": str(self._settings.env_file)}
        file = self._settings.log_dir / LOG
        try:
            with file.open("ab") as output:
                self._child = subprocess.Popen(
                    [sys.executable, "-P", "-m", "bisnesctl", *COMMAND],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self._settings.env_file.parent,
                    env=environment, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            log.warning("switch.not_settled", reason=disk.explain(error, file))
