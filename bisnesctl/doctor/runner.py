"""Runs checks in parallel, each with a deadline of its own. A check that fails or hangs does not affect the others."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from bisnesctl.doctor.finding import Check, Finding, Level, error, skipped
from bisnesctl.doctor.subject import Subject
from bisnesctl.errors import BisnesError, ExitCode
from bisnesctl.host.bounded_call import BoundedCall

#: A command in an error's message.
_COMMAND = re.compile("`([^`]+)`")


@dataclass(frozen=True)
class Result:
    """A check with its finding."""

    check: Check
    finding: Finding


def run(checks: Sequence[Check], subject: Subject) -> list[Result]:
    """The results in the order of the checks."""
    begun = [(check, BoundedCall(partial(_find, check, subject), check.name)) for check in checks]
    started = time.monotonic()
    return [Result(check, _finish(check, call, started)) for check, call in begun]


def exit_code(results: Sequence[Result]) -> ExitCode:
    """The kind of the first error, in the order of the table; OK if there is none."""
    errors = [each for each in results if each.finding.level is Level.ERROR]
    return next((each.finding.kind or each.check.kind for each in errors), ExitCode.OK)


def _find(check: Check, subject: Subject) -> Finding:
    try:
        if reason := check.not_applicable(subject):
            return skipped(reason)
        return check.run(subject)
    except BisnesError as problem:
        fix = "; ".join(_COMMAND.findall(str(problem)))
        return Finding(Level.ERROR, str(problem), check.about.rstrip("."), fix, problem.exit_code)
    except Exception as problem:
        return error(
            f"the check failed: {type(problem).__name__}: {problem}", check.about.rstrip("."), "report this as a bug"
        )


def _finish(check: Check, call: BoundedCall[Finding], started: float) -> Finding:
    try:
        return call.within(started + check.seconds - time.monotonic())
    except TimeoutError:
        found = f"it did not answer within {check.seconds:g} s"
        return error(found, check.about.rstrip("."), "uptime; then try again")
