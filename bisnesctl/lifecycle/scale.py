"""Changes the number of instances of a program while its other instances serve on."""

from collections.abc import Iterator, Mapping, Sequence

from bisnesctl.database import postgres
from bisnesctl.errors import BisnesError, ConfigError, Conflict, DatabaseUnavailable, UsageError
from bisnesctl.health.probes import wait_healthy
from bisnesctl.host import machine_memory, process_memory, tree_memory
from bisnesctl.lifecycle import preflight, self_tests
from bisnesctl.lifecycle.restart import record
from bisnesctl.lifecycle.rolling_restart import is_active, read_settings
from bisnesctl.lifecycle.stop import Report
from bisnesctl.processes import scales
from bisnesctl.processes.deployment import Condition, Deployment, as_started, open_deployment
from bisnesctl.processes.embedded_servers import most_connections
from bisnesctl.processes.topology import Instance, Program, names_of
from bisnesctl.setting_values import ENVIRONMENT
from bisnesctl.settings import Settings

#: Bytes that an instance is expected to use if none of its program runs.
EXPECTED_BYTES = 150 << 20
#: Why an instance is stopped.
_DRAINED = "which the scale does not have, after its current work"


def wanted_numbers(settings: Settings, words: Sequence[str]) -> dict[str, int | None]:
    """The numbers in words such as `api=3`, `meta=+1` or `meta=default` (None), by program.

    `settings`: those in force, to which `+1` refers. Raises `UsageError`.
    """
    found: dict[str, int | None] = {}
    for word in _joined(words):
        name, separator, text = word.partition("=")
        row = scales.find_program(name)
        if not separator:
            raise UsageError(
                f"how many? `bisnesctl scale {name}=3`, or `{name}=default` for the number of the settings"
            )
        found[row.name] = None if text == "default" else _number(row, name, text, settings)
    return found


def _joined(words: Sequence[str]) -> list[str]:
    """Two words such as `api 3`, as PM2 has them, are one."""
    if len(words) == 2 and not any("=" in each for each in words) and words[1].lstrip("+-").isdecimal():
        return [f"{words[0]}={words[1]}"]
    return list(words)


def _number(row: Program, name: str, text: str, settings: Settings) -> int:
    field = str(row.instances)
    least, most = _bounds(field)
    try:
        number = int(text) + (int(getattr(settings, field)) if text[:1] in ("+", "-") else 0)
    except ValueError:
        raise UsageError(f"{name}={text}: that is no number; such as `bisnesctl scale {name}=3`") from None
    if not least <= number <= most:
        hint = f"; `bisnesctl stop {row.name}` stops all" if number < least else ""
        raise UsageError(f"{name}={text}: from {least} to {most} instances{hint}")
    return number


def _bounds(field: str) -> tuple[int, int]:
    info = Settings.model_fields[field]
    return int(info.limit("ge") or 0), int(info.limit("le") or 0)


def scale(settings: Settings, numbers: Mapping[str, int | None], report: Report, force: bool = False) -> None:
    """Remembers the numbers, then starts what is missing or stops what is too much; everything else runs on.

    `settings`: those without the numbers that were set before. `force`: even if memory or connections seem to be too
    few. Raises `ConfigError` or `Conflict` before anything changes; `StartFailed` after everything was undone.
    """
    _check_origins(settings, numbers)
    former, before = open_deployment(as_started(settings)), scales.read(settings.run_dir)
    wanted = _merged(before, numbers)
    with former.lock("scale", report=report):
        running = former.condition() is Condition.RUNNING
        new = open_deployment(scales.with_numbers(former.settings, settings, wanted))
        if running:
            _check_room(former, new, report, force)
        scales.write(settings.run_dir, wanted)
        if not running:
            report(f"remembered; the next start uses it: `{former.start_command}`")
            return
        try:
            _grow(new, numbers, report)
        except BisnesError:
            scales.write(settings.run_dir, before)
            _shrink(former, numbers, report)
            raise
        _shrink(new, numbers, report)


def _merged(before: Mapping[str, int], numbers: Mapping[str, int | None]) -> dict[str, int]:
    return {name: number for name, number in {**before, **numbers}.items() if number is not None}


def preview(
    settings: Settings, numbers: Mapping[str, int | None], report: Report, force: bool = False
) -> Iterator[str]:
    """The effect and the costs of `scale`, in lines. Raises what it would raise before anything changes."""
    _check_origins(settings, numbers)
    former = open_deployment(as_started(settings))
    new = open_deployment(
        scales.with_numbers(former.settings, settings, _merged(scales.read(settings.run_dir), numbers))
    )
    if former.condition() is not Condition.RUNNING:
        yield f"nothing runs: the number is remembered for the next start, `{former.start_command}`"
        return
    processes = former.processes()
    added = [each for each in _instances(new, numbers) if not is_active(each, processes)]
    removed = _extra(new, numbers)
    if added:
        needed, free = _memory(former, added)
        yield f"starts {names_of(added)}; each passes its self-test before it gets work, and nothing waits"
        yield f"memory: about {needed >> 20} MB more, and {free >> 20} MB are free"
        most, before = most_connections(new.settings), most_connections(former.settings)
        yield f"connections to PostgreSQL: up to {most}, instead of {before}"
        _check_room(former, new, report, force)
    if removed:
        yield f"stops {names_of(removed)}, after the current work; no request is refused, and the others do the work"
    if not added and not removed:
        yield "starts and stops nothing: this number runs already"


def _check_origins(settings: Settings, numbers: Mapping[str, int | None]) -> None:
    for row in scales.SCALABLE:
        field = str(row.instances)
        if row.name in numbers and settings.origin(field) == ENVIRONMENT:
            raise ConfigError(
                f"{field.upper()} comes from the environment, which is stronger than `scale`: unset it, or change it "
                f"there and type `bisnesctl restart {row.name}`"
            )


def _instances(deployment: Deployment, programs: Mapping[str, int | None]) -> list[Instance]:
    """The instances of these programs that should run, in the mode and with the `--only` of the last start."""
    return [each for each in deployment.expected() if each.program.name in programs]


def _grow(deployment: Deployment, programs: Mapping[str, int | None], report: Report) -> None:
    processes = deployment.processes()
    missing = [each for each in _instances(deployment, programs) if not is_active(each, processes)]
    if not missing:
        return
    preflight.check_clashes(deployment.settings, missing)
    self_tests.prove(deployment, missing, report)
    rolling = read_settings(deployment, report)
    record(deployment, "scale", missing)
    report(f"starting {names_of(missing)}")
    for instance in missing:
        rolling.begin(instance)
    wait_healthy(deployment, missing, report)


def _shrink(deployment: Deployment, programs: Mapping[str, int | None], report: Report) -> None:
    """Stops the instances of these programs that the settings do not have, after their current work."""
    if extra := _extra(deployment, programs):
        read_settings(deployment, report).drop(extra, _DRAINED)


def _extra(deployment: Deployment, programs: Mapping[str, int | None]) -> list[Instance]:
    own = {each.name for each in deployment.instances}
    known = deployment.known(deployment.processes())
    return [each for each in known if each.program.name in programs and each.name not in own]


# --- Room ----------------------------------------------------------------------------------------------------------


def _check_room(former: Deployment, new: Deployment, report: Report, force: bool) -> None:
    """Raises `ConfigError` or `Conflict` if PostgreSQL or this machine cannot serve the additional instances."""
    processes = former.processes()
    added = [each for each in new.expected() if each.name not in processes]
    if not added or force:
        return
    _check_memory(former, added)
    try:
        with postgres.command_connection(new.settings) as connection:
            preflight.check_connections(connection, new.settings, report)
    except DatabaseUnavailable as error:
        report(f"[yellow]it is unknown whether PostgreSQL allows enough connections[/]: {error}")


def _check_memory(deployment: Deployment, added: Sequence[Instance]) -> None:
    needed, free = _memory(deployment, added)
    if needed > free:
        raise Conflict(
            f"{names_of(added)} would need about {needed >> 20} MB, and {free >> 20} MB are free; "
            "`--force` starts them anyway"
        )


def _memory(deployment: Deployment, added: Sequence[Instance]) -> tuple[int, int]:
    """The bytes that these instances are expected to use, and those that are free."""
    processes = deployment.processes()
    programs = {each.program.name for each in added}
    running = [each for each in deployment.active() if each.program.name in programs]
    pids = {processes[each.name].pid: each.program.name for each in running if each.name in processes}
    used: dict[str, int] = {}
    for pid, tree in tree_memory.measure(pids).items():
        if tree.processes:
            used[pids[pid]] = max(used.get(pids[pid], 0), process_memory.total(tree.processes))
    needed = sum(used.get(each.program.name, EXPECTED_BYTES) for each in added)
    return needed, machine_memory.read().available
