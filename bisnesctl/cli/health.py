"""`bisnesctl health`: the verdict, for people, programs and monitoring."""

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bisnesctl.audit.commands import reads
from bisnesctl.cli.app import WATCH, AsJson, app, example, started_deployment
from bisnesctl.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from bisnesctl.health.verdict import HealthFinding
    from bisnesctl.signals.judgement import Judgement, Thresholds
    from bisnesctl.signals.measurement import Measurement
    from bisnesctl.signals.signal import Reading

#: Seconds for a whole probe, unless `--timeout` says otherwise.
PROBE_TIMEOUT_SECONDS = 30.0


@app.command(
    rich_help_panel=WATCH,
    epilog=example(
        "bisnesctl health",
        "bisnesctl health --probe",
        "bisnesctl health --probe -w outbox_oldest=60 -c outbox_oldest=300 -t 10",
        "bisnesctl health --probe --only disk_used -w 0.8 -c 0.95",
        "*/5 * * * * cd /srv/bisnes && .venv/bin/bisnesctl health --probe 2>&1 | logger -t bisnesctl",
    ),
)
@reads
def health(
    json: AsJson = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Print one line; exit with the code of a monitoring plugin.")
    ] = False,
    only: Annotated[list[str] | None, typer.Option(metavar="SIGNAL,...", help="Judge these signals alone.")] = None,
    warning: Annotated[
        list[str] | None,
        typer.Option("--warning", "-w", metavar="[SIGNAL=]RANGE", help="Warn if a value is outside of this range."),
    ] = None,
    critical: Annotated[
        list[str] | None,
        typer.Option("--critical", "-c", metavar="[SIGNAL=]RANGE", help="Critical if a value is outside of it."),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", "-t", min=0.1, metavar="SECONDS", help="Of a probe; then it is unknown.")
    ] = PROBE_TIMEOUT_SECONDS,
    more: Annotated[list[str] | None, typer.Argument(hidden=True, metavar="SIGNAL")] = None,
) -> None:
    """Check every process, PostgreSQL, Redis and the disks, and list the bots that need an operator.

    It also judges the signals: queues, ages, memory, connections and more. The exit code is 0 if everything is healthy,
    otherwise 5. With `--probe`: 0 OK, 1 warning, 2 critical, 3 unknown. Ranges are those of monitoring plugins: `10`
    alerts outside of 0 to 10, `10:` below 10, `~:10` above 10, `@10:20` within 10 to 20.
    """
    if more and not only:
        raise UsageError(f"unexpected argument {more[0]}. To judge some signals: `--only {' '.join(more)}`")
    only = [*(only or []), *(more or [])]
    if probe:
        _probe(only, warning or [], critical or [], timeout)
        return
    from bisnesctl.signals.judgement import judge_all
    from bisnesctl.signals.measurement import measure

    thresholds = _thresholds(only, warning or [], critical or [])
    found = measure(started_deployment())
    judgement = judge_all(found, thresholds)
    if json:
        _print_json(found, judgement, thresholds)
    else:
        _show(found, judgement, thresholds)
    raise typer.Exit(ExitCode.OK if judgement.verdict == 0 else ExitCode.UNHEALTHY)


def _thresholds(only: list[str], warning: list[str], critical: list[str]) -> "Thresholds":
    """The options as ranges by signal. Raises `UsageError`."""
    from bisnesctl.signals.judgement import Thresholds
    from bisnesctl.signals.table import signal

    names = [signal(name).name for each in only for name in each.split(",") if name]
    return Thresholds(_ranges(warning, "-w", names), _ranges(critical, "-c", names), names)


def _ranges(options: list[str], option: str, names: list[str]) -> dict[str, Any]:
    from bisnesctl.signals.ranges import parse
    from bisnesctl.signals.table import signal

    found = {}
    for text in options:
        name, is_named, text_of_range = text.rpartition("=")
        if not is_named and len(names) != 1:
            raise UsageError(f"{option} {text} names no signal: `{option} outbox_oldest={text}`, or one with `--only`")
        found[signal(name).name if is_named else names[0]] = parse(text_of_range)
    return found


# --- The probe -----------------------------------------------------------------------------------------------------


def _probe(only: list[str], warning: list[str], critical: list[str], timeout: float) -> None:
    """Prints the line and exits. The measurement has a thread of its own, which may never end."""
    from bisnesctl.health import plugin_line
    from bisnesctl.host.bounded_call import BoundedCall
    from bisnesctl.terminal import output

    call = BoundedCall(lambda: _measure_line(only, warning, critical), "probe")
    try:
        code, line = call.within(timeout)
    except TimeoutError:
        code, line = plugin_line.unknown(f"not measured within {timeout:g} s")
        output.result(line)
        sys.stdout.flush()
        os._exit(code)  # threads that wait for an answer would delay the end
    output.result(line)
    raise typer.Exit(code)


def _measure_line(only: list[str], warning: list[str], critical: list[str]) -> tuple[int, str]:
    from bisnesctl.health import plugin_line
    from bisnesctl.signals.judgement import in_one_line
    from bisnesctl.signals.measurement import measure

    try:
        thresholds = _thresholds(only, warning, critical)
        verdict, line = in_one_line(measure(started_deployment()), thresholds)
    except Exception as error:  # a monitoring system reads this line alone
        return plugin_line.unknown(error)
    return int(verdict), line


# --- For programs and people ---------------------------------------------------------------------------------------


def _print_json(found: "Measurement", judgement: "Judgement", thresholds: "Thresholds") -> None:
    from bisnesctl.terminal import output

    groups = ("processes", "disks", "settings", "bots")
    shown: dict[str, object] = {name: [_plain(each) for each in found.findings.get(name, ())] for name in groups}
    signals = [_signal(each, thresholds) for each in found.readings.values if thresholds.counts(each.signal)]
    verdict = {"verdict": judgement.verdict.name.lower()}
    output.print_json(verdict | shown | {"signals": signals, "unmeasured": found.unmeasured})


def _plain(finding: "HealthFinding") -> dict[str, str]:
    return {"name": finding.name, "status": finding.health.status.value, "reason": finding.health.reason}


def _signal(reading: "Reading", thresholds: "Thresholds") -> dict[str, object]:
    import math

    return {
        "signal": reading.signal.name,
        "labels": dict(reading.labels),
        "value": reading.value if math.isfinite(reading.value) else None,
        "unit": reading.signal.unit.value,
        "verdict": thresholds.judge(reading).name.lower(),
        "reason": reading.reason,
    }


def _show(found: "Measurement", judgement: "Judgement", thresholds: "Thresholds") -> None:
    from bisnesctl.health.verdict import Verdict
    from bisnesctl.terminal import output
    from bisnesctl.terminal.output import escape

    colours = {Verdict.OK: "green", Verdict.WARNING: "yellow"}
    columns = [output.Column("name"), output.Column("health"), output.Column("reason", wraps=True)]
    rows = []
    for each in () if thresholds.only else [each for group in found.findings.values() for each in group]:
        health = f"[{colours.get(each.verdict, 'red')}]{each.health.status}[/]"
        rows.append((escape(each.name), health, escape(each.health.reason)))
    shown = [(each, thresholds.judge(each)) for each in found.readings.values if thresholds.counts(each.signal)]
    for reading, verdict in shown if thresholds.only else judgement.readings:
        colour = colours.get(verdict, "red")
        rows.append((escape(reading.name), f"[{colour}]{verdict.name.lower()}[/]", escape(reading.summary)))
    output.print_table(columns, rows)
    unmeasured = {name: why for name, why in found.unmeasured.items() if not thresholds.only or name in thresholds.only}
    for reason in dict.fromkeys(unmeasured.values()):
        names = ", ".join(name for name, why in unmeasured.items() if why == reason)
        output.say(f"[dim]not measured: {escape(names)} ({escape(reason)})[/]")
