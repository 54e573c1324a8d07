"""`docs/reference/checks.md`: the checks of `bisnesctl doctor`."""

from collections.abc import Sequence

from markdown_table import table

from bisnesctl.doctor.finding import Check
from bisnesctl.doctor.table import CHECKS, DEPLOY_CHECKS

INTRODUCTION = """\
# Checks before a start

The checks of `bisnesctl doctor`. `bisnesctl doctor NAME…` runs those named; a group is the part before the dot.

All checks run in parallel, even if one fails, and each has a deadline. A finding is `ok`, a `warning` (it works, but \
not as it should), an `error` (a start or a deploy fails or loses something) or `skipped`. Warnings and errors say \
what is, what should be, and what to type. The exit code is that of the first error in this order, or 0; with \
`--strict`, warnings alone end with 5.

`--json` prints an object with `ok` (no error) and `checks`, a list of objects with `name`, `level`, `found`, `wanted` \
and `fix`; the last two are null if there is nothing to do.
"""


def render() -> str:
    """The page."""
    return (
        f"{INTRODUCTION}\n{_table(CHECKS)}\n\n## Before a deploy\n\n"
        "`bisnesctl doctor --pre-deploy` also checks this:\n\n"
        f"{_table(DEPLOY_CHECKS)}\n"
    )


def _table(checks: Sequence[Check]) -> str:
    rows = [(f"`{each.name}`", each.about, str(each.kind.value)) for each in checks]
    return table(("check", "condition", "exit code of an error"), rows)
