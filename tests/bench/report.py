"""The output of the benchmark: tables and JSON."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from tests.bench.claim import Claimed
from tests.bench.figures import Faults, medians
from tests.bench.growth import COLUMNS, Grown
from tests.bench.measure import Measured, Plan
from tests.bench.rest import Resting
from tests.bench.web import Found

#: Name of a figure → what it is called in the table, and its decimals.
ROWS = {
    "accepted_per_second": ("accepted requests / s", 0),
    "sent_per_second": ("end to end messages / s", 0),
    "latency_p50_ms": ("POST → Graph at {rate:g}/s, p50 ms", 1),
    "latency_p99_ms": ("POST → Graph at {rate:g}/s, p99 ms", 1),
    "cpu_app_per_1000": ("CPU s / 1,000 messages, processes", 2),
    "cpu_all_per_1000": ("… with PostgreSQL and Redis", 2),
    "cpu_ms_per_message_steady": ("CPU ms / message at {rate:g}/s, with both", 1),
    "cpu_ms_per_message_low": ("CPU ms / message at {low_rate:g}/s, with both", 1),
    "memory_mib": ("memory of the processes, MiB (PSS)", 0),
    "distant_per_second": ("end to end messages / s, Graph answers after {distant:g} ms", 0),
    "distant_cpu_per_1000": ("… CPU s / 1,000 messages, with both", 2),
}

#: The same for a side at rest.
RESTING_ROWS = {
    "idle_percent": ("CPU, % of a core, with PostgreSQL and Redis", 2),
    "idle_processes_percent": ("… of the processes alone", 2),
    "idle_wakeups": ("wake-ups of the processes / s", 0),
    "memory_mib": ("memory of the processes, MiB (PSS)", 0),
}

Rounds = Mapping[str, Sequence[Measured]]  # side → one entry a round


def describe(rounds: Rounds, plan: Plan, about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that was measured, as JSON would have it."""
    return {
        "machine": machine(),
        "about": dict(about),
        "plan": asdict(plan),
        "sides": {
            name: {
                "medians": medians([one.figures for one in measured]),
                "memory_mib": medians([one.memory for one in measured]),
                "faults": asdict(_all_faults(measured)),
                "rounds": [asdict(one) for one in measured],
            }
            for name, measured in rounds.items()
        },
    }


def machine() -> dict[str, Any]:
    """The machine that the figures depend on."""
    return {
        "cpus": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _all_faults(measured: Sequence[Measured]) -> Faults:
    return sum((one.faults for one in measured), Faults())


def show(console: Console, rounds: Rounds, plan: Plan) -> None:
    """Print the table: a line for each figure, and the ratio of the first side to the second."""
    figures = {name: medians([one.figures for one in measured]) for name, measured in rounds.items()}
    console.print(_title(rounds, plan))
    table = Table()
    table.add_column("")
    for name in rounds:
        table.add_column(name, justify="right")
    if len(figures) == 2:
        table.add_column(" / ".join(figures), justify="right")
    words = {"rate": plan.rate, "low_rate": plan.low_rate, "distant": plan.distant_delay_ms}
    for key, (title, decimals) in ROWS.items():
        values = [one[key] for one in figures.values() if key in one]
        if not values:
            continue
        cells = [f"{value:,.{decimals}f}" for value in values]
        table.add_row(title.format(**words), *cells, *_ratio(values))
    for title, cells in _fault_rows(rounds):
        table.add_row(title, *cells)
    console.print(table)
    for name, measured in rounds.items():
        _show_memory(console, name, measured)


def _title(rounds: Rounds, plan: Plan) -> str:
    count = max(len(measured) for measured in rounds.values())
    delay = f", Graph answers after {plan.graph_delay_ms:g} ms" if plan.graph_delay_ms else ""
    return f"{plan.messages:,} messages over {plan.connections} connections, medians of {count}{delay}"


def _ratio(values: Sequence[float]) -> list[str]:
    if len(values) != 2:
        return []
    first, second = values
    return [f"{first / second:.2f}" if second else "-"]


def _fault_rows(rounds: Rounds) -> list[tuple[str, list[str]]]:
    faults = {name: asdict(_all_faults(measured)) for name, measured in rounds.items()}
    titles = {
        "lost": "lost, all rounds",
        "doubled": "doubled",
        "disordered": "out of order in their chat",
        "astray": "to a wrong chat or by a wrong number",
    }
    return [(title, [str(one[key]) for one in faults.values()]) for key, title in titles.items()]


def _show_memory(console: Console, name: str, measured: Sequence[Measured]) -> None:
    parts = medians([one.memory for one in measured])
    console.print(f"{name}: " + ", ".join(f"{label} {mib:.0f} MiB" for label, mib in sorted(parts.items())))


def show_claims(console: Console, claims: Sequence[Claimed]) -> None:
    """Print what claiming costs in each state of the outbox."""
    console.print("One worker, batches of 64; milliseconds, p50 / p99")
    table = Table()
    for heading in ("the outbox holds", "accept 64", "claim 64", "record 64 and claim 64", "claimed"):
        table.add_column(heading, justify="left" if heading.startswith("the") else "right")
    for one in claims:
        table.add_row(one.state, str(one.accept), str(one.claim), str(one.exchange), f"{one.claimed:,}")
    console.print(table)


def show_rest(console: Console, found: Mapping[str, Sequence[Resting]], commands: Mapping[str, float]) -> None:
    """Print what everything costs at rest, and how quickly commands of the tool answer."""
    figures = {name: medians([one.figures for one in rounds]) for name, rounds in found.items()}
    table = Table("at rest")
    for name in figures:
        table.add_column(name, justify="right")
    for key, (title, decimals) in RESTING_ROWS.items():
        table.add_row(title, *(f"{one[key]:,.{decimals}f}" for one in figures.values()))
    console.print(table)
    for name, rounds in found.items():
        parts = medians([one.memory for one in rounds])
        console.print(f"{name}: " + ", ".join(f"{label} {mib:.0f} MiB" for label, mib in sorted(parts.items())))
    for name, seconds in commands.items():
        console.print(f"bisnesctl --{name}: {seconds:.3f} s")


def show_growth(console: Console, found: Sequence[Grown]) -> None:
    """Print what a message costs in each size of a deployment."""
    console.print("Stored, claimed, recorded, reported: processor time of a message / median of a batch, milliseconds")
    table = Table()
    for heading in COLUMNS:
        table.add_column(heading, justify="left" if heading.startswith("the") else "right")
    for one in found:
        table.add_row(*(cell(one) for cell in COLUMNS.values()))
    console.print(table)


def show_web(console: Console, found: Found) -> None:
    """Print what WhatsApp Web sessions cost and bore."""
    table = Table()
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in {**found.figures, **found.faults}.items():
        table.add_row(name.replace("_", " "), _worded(value))
    console.print(table)
    for name, parts in found.memory.items():
        shown = ", ".join(f"{part} {mib:.0f} MiB" for part, mib in sorted(parts.items()))
        console.print(f"{name}: {sum(parts.values()):.0f} MiB (PSS): {shown}")


#: Name of a figure of the comparison → what it is called in the table, and its decimals.
WEB_ROWS = {
    "burst_texts_per_second": ("200 texts to 20 chats at once, texts / s", 1),
    "burst_cpu_s_per_100": ("… CPU s / 100 texts, Chromium and servers included", 2),
    "burst_commits": ("… writing commits / text", 1),
    "steady_latency_p50_ms": ("POST → WhatsApp at 2/s, p50 ms", 1),
    "steady_latency_p99_ms": ("… p99 ms", 1),
    "steady_cpu_s_per_100": ("… CPU s / 100 texts, Chromium and servers included", 2),
    "steady_commits": ("… writing commits / text", 1),
}


def show_web_comparison(console: Console, figures: Mapping[str, Mapping[str, float]]) -> None:
    """Print the table: a line for each figure, and the ratio of the first side to the second if both have it."""
    table = Table()
    table.add_column("")
    for name in figures:
        table.add_column(name, justify="right")
    if len(figures) == 2:
        table.add_column(" / ".join(figures), justify="right")
    for key, (title, decimals) in WEB_ROWS.items():
        values = [one.get(key) for one in figures.values()]
        cells = ["-" if value is None else f"{value:,.{decimals}f}" for value in values]
        known = [value for value in values if value is not None]
        table.add_row(title, *cells, *(_ratio(known) or ["-"]))
    console.print(table)


def _worded(value: Any) -> str:
    """A figure, or several by their names."""
    if isinstance(value, dict):
        return ", ".join(f"{count} {what}" for what, count in value.items())
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


def write_json(file: Path, data: Any) -> None:
    """Write the report; a name of "-" is standard output."""
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    if str(file) == "-":
        print(text, end="")
    else:
        file.write_text(text)
