"""The figures of both sides of a rollout, as `rollout status` prints them."""

from collections.abc import Mapping

from bisnesctl.rollout import sentences
from bisnesctl.rollout.figures import SideFigures
from bisnesctl.terminal import output
from bisnesctl.terminal.output import Column, escape

_COLUMNS = (
    Column("side"),
    Column("bots up", "right"),
    Column("accepted", "right"),
    Column("sent", "right", from_width=90),
    Column("delivered", "right"),
    Column("failed", "right"),
    Column("p50", "right"),
    Column("p99", "right"),
    Column("restarts", "right"),
)
#: Codes of errors that are listed for a side.
MAX_CODES = 6


def show_figures(sides: Mapping[str, SideFigures]) -> None:
    """Prints a table of the sides, by their names, and their errors and probes below it."""
    output.print_table(_COLUMNS, [_row(name, each) for name, each in sides.items()])
    output.print_pairs(
        [
            *((f"errors, {escape(name)}", _errors(each)) for name, each in sides.items() if each.customers.failures),
            *((f"probes, {escape(name)}", _probes(each)) for name, each in sides.items() if each.probes.share.whole),
        ]
    )


def _row(name: str, figures: SideFigures) -> list[str]:
    found = figures.customers
    delivered = sentences.percent(found.delivered / found.sent) if found.sent else "-"
    failed = sentences.percent(found.share.value) if found.share.whole else "-"
    return [
        escape(name), f"{figures.connected}/{figures.bots}", str(figures.accepted), str(found.sent), delivered, failed,
        sentences.seconds(found.latency(0.5)), sentences.seconds(found.latency(0.99)), str(figures.restarts),
    ]  # fmt: skip


def _errors(figures: SideFigures) -> str:
    ordered = sorted(figures.customers.failures.items(), key=lambda each: (-each[1], each[0]))
    named = [f"{escape(code)} ({count})" for code, count in ordered[:MAX_CODES]]
    more = len(ordered) - MAX_CODES
    return ", ".join(named) + (f" and {more} more codes" if more > 0 else "")


def _probes(figures: SideFigures) -> str:
    found = figures.probes
    return (
        f"{found.failed or 'none'} of {found.share.whole} failed, half within {sentences.seconds(found.latency(0.5))}"
    )
