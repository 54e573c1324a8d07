"""The switch to another release, as steps, with the way back from each. It decides; `Steps` acts.

A switch ends with everything on the new release, or with everything on the release before. Each step is recorded before
it begins. If the process that switches is killed, `settle` finishes or undoes what it left, as often as it takes.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from bisnesctl.errors import BisnesError, StartFailed
from bisnesctl.processes.switch_records import Stage, SwitchRecord

Report = Callable[[str], None]


class SwitchFailed(StartFailed):
    """The release failed. Everything runs the release before. See `bisnesctl release list`."""


class Steps(Protocol):
    """The steps of one switch, and its records."""

    def check(self) -> None:
        """Raises `BisnesError` unless the new release can run here. Touches nothing that runs."""

    def migrate(self) -> None:
        """Brings the database up to date; the release before continues on it. Raises `BisnesError`."""

    def running(self) -> tuple[str, ...]:
        """The names of the instances that run and must run afterwards too."""

    def reload(self) -> None:
        """Restarts the instances with the new release in turn. Raises `BisnesError` at the first that fails."""

    def watch(self) -> str:
        """Why the new release is at fault; empty if it is not."""

    def complete(self) -> None:
        """Restarts the guard with the new release. Raises `BisnesError`."""

    def astray(self, record: SwitchRecord) -> list[str]:
        """The instances that run the new release, or that ran before and do not run now."""

    def bring_back(self, names: list[str]) -> None:
        """Restarts these instances with the release before. Raises `BisnesError`."""

    def shield(self) -> AbstractContextManager[None]:
        """Within it, the interruptions of an operator have no effect."""

    def save(self, record: SwitchRecord) -> None:
        """Records the stage."""

    def forget(self, record: SwitchRecord) -> None:
        """Removes the record, because nothing is left to do."""

    def accept(self, record: SwitchRecord) -> None:
        """Makes the new release current, and records that."""

    def reject(self, record: SwitchRecord, reason: str) -> None:
        """Keeps the release before current, and records why the new one failed."""


def switch(steps: Steps, record: SwitchRecord, report: Report) -> None:
    """Switches to another release. `record`: that of a new switch.

    Raises the error of a check, which touched nothing, or `SwitchFailed` after everything was brought back.
    """
    steps.save(record)
    try:
        steps.check()
        steps.migrate()
    except BaseException as error:
        if isinstance(error, StartFailed):
            steps.reject(record, _brief(error))
        steps.forget(record)
        raise
    try:
        record = replace(record, stage=Stage.RELOADING, ran=steps.running())
        steps.save(record)
        steps.reload()
        record = _enter(steps, record, Stage.WATCHING)
        if fault := steps.watch():
            raise SwitchFailed(fault)
        record = _enter(steps, record, Stage.COMPLETING)
        steps.complete()
        record = _enter(steps, record, Stage.ACCEPTED)
    except (Exception, KeyboardInterrupt) as error:
        _go_back(steps, record, error, report)
    _finish(steps, record)


def settle(steps: Steps, record: SwitchRecord, report: Report) -> str:
    """Finishes or undoes a switch whose process was killed. Returns what came of it, as a sentence.

    Raises `BisnesError` if the release before cannot be started again; then it can be tried again.
    """
    record = record.taken_over()
    steps.save(record)
    match record.stage:
        case Stage.PREPARING:
            steps.forget(record)
            return "it had changed nothing that runs"
        case Stage.ACCEPTED:
            _finish(steps, record)
            return "everything ran the new release and worked, so it is current now"
        case _:
            _return(steps, record, record.reason or f"it was interrupted while it was {record.stage}", report)
            return "everything runs the release before"


def _enter(steps: Steps, record: SwitchRecord, stage: Stage) -> SwitchRecord:
    record = replace(record, stage=stage)
    steps.save(record)
    return record


def _go_back(steps: Steps, record: SwitchRecord, error: BaseException, report: Report) -> None:
    """Raises `SwitchFailed`, or `KeyboardInterrupt` if an operator interrupted it."""
    with steps.shield():
        reason = "an operator interrupted it" if isinstance(error, KeyboardInterrupt) else _brief(error)
        _return(steps, record, reason, report)
    if isinstance(error, KeyboardInterrupt):
        raise error
    raise SwitchFailed(f"{error}\nwent back: everything runs the release before") from error


def _return(steps: Steps, record: SwitchRecord, reason: str, report: Report) -> None:
    record = replace(record, stage=Stage.RETURNING, reason=reason)
    steps.save(record)
    report(f"going back: {reason}")
    try:
        for _ in range(2):  # what was down at the first look may have been started meanwhile
            if not (names := steps.astray(record)):
                break
            steps.bring_back(names)
    except BisnesError as error:
        steps.save(replace(record, failed=_brief(error), failed_at=time.time()))
        raise
    steps.reject(record, reason)
    steps.forget(record)


def _finish(steps: Steps, record: SwitchRecord) -> None:
    steps.accept(record)
    steps.forget(record)


def _brief(error: BaseException) -> str:
    return str(error).partition("\n")[0]
