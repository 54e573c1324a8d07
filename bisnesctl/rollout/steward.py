"""The resident part of rollouts and rollbacks: looks whether somebody works on them, and starts a command otherwise.

The program `alerts` calls it. It only reads two small files while nothing is under way.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import structlog

from bisnesctl.processes.deployment import Deployment
from bisnesctl.rollout import duty
from bisnesctl.rollout.duty import RollbackRecord

#: Seconds between two commands of the same kind: one that fails is not repeated at once.
RETRY_SECONDS = 5.0
#: The file with the output of the commands, below the folder of logs.
LOG = "rollout.log"
#: Variables that belong to the caller's own place below supervisord.
_OWN = ("SUPERVISOR_", "BISNES_PROCESS", "BISNES_INSTANCE", "NOTIFY_SOCKET")

log = structlog.get_logger()


class Steward:
    """Starts the commands that continue what was interrupted, and those that undo what nobody confirmed."""

    def __init__(self) -> None:
        self._children: list[subprocess.Popen[bytes]] = []
        self._due = 0.0  # by time.monotonic()

    def look(self, deployment: Deployment) -> bool:
        """Starts a command if one is needed; returns whether anything is under way."""
        run_dir = deployment.settings.run_dir
        self._children = [each for each in self._children if each.poll() is None]
        moving, rollback = duty.is_moving(run_dir), duty.read_rollback(run_dir)
        if not moving and rollback is None:
            return False
        if self._children or time.monotonic() < self._due or deployment.was_stopped:
            return True
        if rollback is not None and not duty.is_worked_on(run_dir, duty.ROLLBACK):
            if words := _words_of(rollback):
                self._start(deployment, words)
        elif moving and not duty.is_worked_on(run_dir, duty.MOVING):
            self._start(deployment, ["rollout", "drive"])
        return True

    def _start(self, deployment: Deployment, words: list[str]) -> None:
        self._due = time.monotonic() + RETRY_SECONDS
        log.info("rollout.command_started", command=" ".join(words))
        settings = deployment.settings
        environment = {name: text for name, text in os.environ.items() if not name.startswith(_OWN)}
        environment["BISNES_ENV"] = str(settings.env_file)
        try:
            with Path(settings.log_dir / LOG).open("ab") as output:
                child = subprocess.Popen(
                    [sys.executable, "-m", "bisnesctl", *words], stdin=subprocess.DEVNULL, stdout=output,
                    stderr=output, env=environment, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            log.warning("rollout.command_failed", command=" ".join(words), reason=str(error))
            return
        self._children.append(child)


def _words_of(record: RollbackRecord) -> list[str]:
    """The command that a rollback needs now; empty if none."""
    if not record.done or record.hands_over:
        return ["rollback", "resume"]
    if record.undone_at is not None and time.time() >= record.undone_at:
        return record.way_back.split()[1:]
    return []
