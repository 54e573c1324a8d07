"""`docs/reference/exit-codes.md`: the exit codes of the tool and of the probe."""

from markdown_table import table

from bisnesctl.errors import ExitCode
from bisnesctl.health.verdict import Verdict

#: The meaning of each verdict of the probe for the person on call.
PROBE = {
    Verdict.OK: "everything is healthy",
    Verdict.WARNING: "a single number needs an operator, or something needs attention soon",
    Verdict.CRITICAL: "something fails now",
    Verdict.UNKNOWN: "the check itself failed, or there is no deployment in this folder",
}

INTRODUCTION = """\
# Exit codes

The codes that `bisnesctl` returns to the shell.

Results go to the standard output; progress and errors go to the standard error output. An error is one line that \
names the next command to type. `bisnesctl -v COMMAND` shows where an error came from.
"""


def render() -> str:
    """The page."""
    codes = table(("code", "meaning"), [(str(code.value), code.meaning) for code in ExitCode])
    probe = table(("code", "word", "meaning"), [(str(each.value), each.name, PROBE[each]) for each in Verdict])
    return (
        f"{INTRODUCTION}\n{codes}\n\n## The probe\n\n"
        "`bisnesctl health --probe` prints one line and returns the codes of monitoring plugins instead; "
        f"see [Monitor](../how-to/monitor.md).\n\n{probe}\n"
    )
