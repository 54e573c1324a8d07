"""Measures all signals of a deployment. A place that does not answer is named; the rest is measured all the same."""

import contextlib
import math
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import psycopg2

from bisnesctl.bots import check_records
from bisnesctl.bots.check_records import BotTrouble
from bisnesctl.database import postgres
from bisnesctl.database.kept_connection import KeptConnection
from bisnesctl.database.postgres import Connection
from bisnesctl.errors import BisnesError
from bisnesctl.health import guard_file, verdict
from bisnesctl.health.guard_file import GUARD
from bisnesctl.health.verdict import HealthFinding
from bisnesctl.host import tree_memory, volumes
from bisnesctl.host.bounded_call import BoundedCall
from bisnesctl.naming import ALERTS
from bisnesctl.processes.deployment import Condition, Deployment
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import Instance, memory_limit
from bisnesctl.signals import bots, cache, history, instances, machine, processes, queues, servers
from bisnesctl.signals.history import Sample
from bisnesctl.signals.instances import Figures
from bisnesctl.signals.signal import BROKEN, FINE, Place, Reading, Readings, Signal
from bisnesctl.signals.table import BY_NAME, MEASURED

#: Seconds for each statement; its signals are not measured if it takes longer.
DATABASE_TIMEOUT_SECONDS = 2
#: Seconds for the disks, which have shorter time limits of their own.
DISK_TIMEOUT_SECONDS = 30.0
#: Seconds for the certificate, the name server included.
CERTIFICATE_TIMEOUT_SECONDS = 8.0
#: Seconds for which a `Measurer` uses what is costly to measure and changes slowly: the memory of process trees, and
#: the certificate.
MEMORY_VALID_SECONDS, CERTIFICATE_VALID_SECONDS = 60.0, 600.0


@dataclass
class Measurement:
    """The values that were found so far, and the signals that could not be measured."""

    deployment: Deployment
    #: Findings in words, as `health` lists them: processes, disks, settings, bots.
    findings: dict[str, list[HealthFinding]] = field(default_factory=dict)
    values: list[Reading] = field(default_factory=list)
    unmeasured: dict[str, str] = field(default_factory=dict)
    at: float = field(default_factory=time.time)

    @property
    def readings(self) -> Readings:
        """The readings, with those that name what could not be measured. A network may be closed to this machine."""
        expected = {name: why for name, why in self.unmeasured.items() if BY_NAME[name].measured is not Place.NETWORK}
        missing = [Reading(MEASURED, 0.0, {"signal": name}, why) for name, why in expected.items()]
        return Readings([*self.values, *missing], dict(self.unmeasured), self.at)

    def take(self, signals: Sequence[Signal], read: Callable[[], Iterable[Reading]]) -> None:
        """Measures some signals, or notes why they cannot be measured."""
        try:
            self.values += list(read())
        except (BisnesError, psycopg2.Error, OSError, ValueError) as error:
            self.miss(signals, str(error))

    def miss(self, signals: Sequence[Signal], why: str) -> None:
        """Notes that signals cannot be measured."""
        reason = (why.strip() or "it does not answer").splitlines()[0]
        self.unmeasured |= {each.name: reason for each in signals}


class Measurer:
    """Measures again and again: it keeps what is costly to measure for a while."""

    def __init__(self, kept: KeptConnection) -> None:
        """`kept`: the connection to PostgreSQL, which the caller closes."""
        self._kept = kept
        self._certificate = _Slow(CERTIFICATE_VALID_SECONDS)
        self._memory = _Slow(MEMORY_VALID_SECONDS)

    def measure(self, deployment: Deployment, refused: Collection[str] = ()) -> Measurement:
        """Measures everything, within some seconds; nothing if nothing was ever started here.

        `refused`: why settings are refused, beside those that the deployment names. Works without PostgreSQL, Redis
        and supervisord.
        """
        found = Measurement(deployment)
        if not deployment.was_tried:
            return found
        settings = deployment.settings
        past = history.read(settings.run_dir)
        disks = BoundedCall(lambda: volumes.look(settings))
        read_certificate = partial(machine.read_certificate, settings)
        certificate = BoundedCall(lambda: self._certificate.read(settings.public_url, read_certificate))
        figures = _measure_processes(found, self._kept, self._memory)
        found.take(machine.DISK_SIGNALS, lambda: _measure_disks(found, disks.within(DISK_TIMEOUT_SECONDS), past))
        found.take((machine.CERTIFICATE_EXPIRES_IN,), lambda: certificate.within(CERTIFICATE_TIMEOUT_SECONDS))
        found.take((machine.HOST_MEMORY, machine.HOST_LOAD), machine.read_host)
        _measure_settings(found, refused)
        if _has_database(found):
            _measure_database(found, self._kept, figures, past)
        _keep(found, past)
        return found


class _Slow:
    """Readings that are used for a while, unless what they depend on changes."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._key: object = None
        self._until = -math.inf
        self._readings: list[Reading] = []

    def read(self, key: object, measure: Callable[[], Iterable[Reading]]) -> list[Reading]:
        """The readings, measured again if they are old or the key is another one. Raises what measuring raises."""
        if key != self._key or time.monotonic() >= self._until:
            self._readings = list(measure())
            self._key, self._until = key, time.monotonic() + self._seconds
        return self._readings


def measure(deployment: Deployment, refused: Collection[str] = ()) -> Measurement:
    """Measures everything once, as `Measurer.measure`."""
    with contextlib.closing(KeptConnection()) as kept:
        return Measurer(kept).measure(deployment, refused)


def _has_database(found: Measurement) -> bool:
    """Whether PostgreSQL should answer: an embedded one runs only beside the processes."""
    deployment = found.deployment
    if deployment.was_stopped:
        return False
    return not deployment.settings.embedded_postgres or not _is_supervisord_down(found)


def _is_supervisord_down(found: Measurement) -> bool:
    return any(each.name == "supervisord" for each in found.findings["processes"])


# --- Processes -----------------------------------------------------------------------------------------------------


def _measure_processes(found: Measurement, kept: KeptConnection, memory: _Slow) -> list[Figures]:
    """Measures everything about processes; returns the figures of those of this machine."""
    deployment, settings = found.deployment, found.deployment.settings
    condition = deployment.condition()
    if condition is Condition.RUNNING:
        running: Mapping[str, Process] = deployment.processes()
        findings = verdict.examine_running(deployment, running, kept)
    else:
        running, findings = {}, verdict.absent(deployment, condition)
    found.findings["processes"] = findings
    own = {each.name: each for each in findings}
    supervisord = [own[each] for each in ("supervisord",) if each in own]
    found.values.append(processes.worst(processes.SUPERVISORD, supervisord))
    if supervisord and not deployment.was_stopped:
        found.miss((processes.PROCESS_HEALTH, processes.MEMORY_USED, processes.MEMORY_OF_LIMIT), "supervisord is down")
    shown = deployment.shown(running) if running else []
    names = {each.name: each.program.process or each.program.name for each in shown}
    for name, finding in own.items():
        if name in names:
            labels = {"process": names[name], "name": name}
            found.values.append(processes.worst(processes.PROCESS_HEALTH, [finding], labels))
        elif name.endswith(" endpoint"):
            found.values.append(processes.worst(processes.ENDPOINT_HEALTH, [finding], {"name": name}))
    _judge_server(found, servers.REDIS_HEALTH, [own[each] for each in ("redis",) if each in own])
    _judge_server(found, servers.POSTGRES_HEALTH, [own[each] for each in ("postgresql", "postgres") if each in own])
    active = [each.name for each in shown if (process := running.get(each.name)) and process.active]
    if not running and not deployment.was_stopped:  # supervisord does not answer; its processes may still run
        active = instances.names_in_files(settings)
    figures = list(instances.in_files(settings, active))
    for each in figures:
        found.values += processes.read_figures(each)
    _measure_guard(found, running, figures, names)
    pids = {each.name: process.pid for each in shown if (process := running.get(each.name)) and process.pid}
    found.take(
        (processes.MEMORY_USED, processes.MEMORY_OF_LIMIT),
        lambda: memory.read(pids, lambda: _memory(deployment, shown, pids, names)),
    )
    return figures


def _judge_server(found: Measurement, signal: Signal, findings: Sequence[HealthFinding]) -> None:
    if findings:
        found.values.append(processes.worst(signal, findings))
    elif not found.deployment.was_stopped:
        found.miss((signal,), "supervisord is down")


def _measure_guard(
    found: Measurement, running: Mapping[str, Process], figures: Sequence[Figures], names: Mapping[str, str]
) -> None:
    run_dir = found.deployment.settings.run_dir
    age = guard_file.heartbeat_age(run_dir)
    if GUARD in names and age is not None:
        found.values.append(Reading(processes.GUARD_AGE, age))
    if ALERTS in names:
        ages = [each.age for each in figures if each.name == ALERTS]
        if ages:
            found.values.append(Reading(processes.ALERTS_AGE, ages[0]))
        else:
            found.miss((processes.ALERTS_AGE,), "the evaluator of alerts gives no heartbeat")
    recent = {
        name: [(each.cause, each.count, each.reason) for each in restarts]
        for name, restarts in guard_file.recent_restarts(run_dir).items()
    }
    found.values += processes.read_restarts(recent, names)


def _memory(
    deployment: Deployment, shown: Sequence[Instance], pids: Mapping[str, int], names: Mapping[str, str]
) -> Iterator[Reading]:
    host = socket.gethostname()
    limits = {each.name: memory_limit(each.program, deployment.settings) for each in shown}
    used = tree_memory.sizes({pid: limits[name] for name, pid in pids.items()})
    for name, pid in pids.items():
        if (size := used.get(pid)) is None:
            continue
        yield Reading(processes.MEMORY_USED, float(size), {"process": names[name], "name": name, "host": host})
        if limit := limits[name]:
            yield Reading(processes.MEMORY_OF_LIMIT, size / limit, {"process": names[name], "name": name})


# --- The machine ---------------------------------------------------------------------------------------------------


def _measure_disks(
    found: Measurement, disks: Sequence[volumes.Disk], past: dict[str, list[Sample]]
) -> Iterator[Reading]:
    found.findings["disks"] = verdict.findings_of_disks(disks)
    free = {history.free_space_name(each.mount): float(each.free) for each in disks if each.free is not None}
    past.update(history.add(past, free, found.at))
    return machine.read_disks(disks, past)


def _measure_settings(found: Measurement, refused: Collection[str]) -> None:
    findings = found.findings["settings"] = verdict.examine_settings(found.deployment, refused)
    found.values.append(processes.worst(processes.SETTINGS_HEALTH, findings))


def _keep(found: Measurement, past: Mapping[str, Sequence[Sample]]) -> None:
    with contextlib.suppress(OSError):  # disk_health says why
        values = queues.samples_of(found.values)
        cache.keep(found.deployment.settings.run_dir, found.readings, history.add(past, values, found.at))


# --- The database --------------------------------------------------------------------------------------------------


def _measure_database(
    found: Measurement, kept: KeptConnection, figures: Sequence[Figures], past: Mapping[str, Sequence[Sample]]
) -> None:
    settings = found.deployment.settings
    signals = (*servers.DATABASE_SIGNALS, *queues.SIGNALS, *bots.SIGNALS)
    try:
        with (
            postgres.translated(postgres.HINT, settings.database_dsn),
            kept.connected(settings.database_dsn, DATABASE_TIMEOUT_SECONDS) as connection,
        ):
            _read_database(found, connection, figures, past)
    except BisnesError as error:
        measured = {each.signal.name for each in found.values}
        found.miss([each for each in signals if each.name not in measured], str(error))
        _correct_postgres(found, BROKEN, str(error).splitlines()[0])
    else:
        _correct_postgres(found, FINE, "")


def _correct_postgres(found: Measurement, value: float, reason: str) -> None:
    """The database was asked: that counts more than what is known of its process, which may be stopped or unknown."""
    name = servers.POSTGRES_HEALTH.name
    before = next((each for each in found.values if each.signal.name == name), None)
    if before is not None and not before.deliberate:
        return
    if before is not None:
        found.values.remove(before)
    found.unmeasured.pop(name, None)
    reading = Reading(servers.POSTGRES_HEALTH, value, {}, reason, bool(value) and before is not None)
    found.values.append(reading)


def _read_database(
    found: Measurement, connection: Connection, figures: Sequence[Figures], past: Mapping[str, Sequence[Sample]]
) -> None:
    settings = found.deployment.settings
    everywhere = list(figures)
    troubles: list[BotTrouble] = []

    def elsewhere() -> Iterator[Reading]:
        for each in instances.on_other_machines(connection):
            everywhere.append(each)
            yield from processes.read_figures(each)

    def in_trouble() -> Iterator[Reading]:
        troubles.extend(check_records.troubled_in(connection, settings.max_heartbeat_age / 1000))
        return bots.read_bots(connection, troubles)

    groups: tuple[tuple[Sequence[Signal], Callable[[], Iterable[Reading]]], ...] = (
        ((servers.CLOCK_OFFSET,), lambda: servers.read_clock(connection)),
        ((servers.CONNECTIONS_USED, servers.CONNECTIONS_OPEN), lambda: servers.read_connections(connection)),
        ((), elsewhere),
        ((bots.BOT_HEALTH, bots.BOTS, bots.BOTS_IN_TROUBLE), in_trouble),
        ((bots.PROVIDER_HEALTH,), lambda: bots.read_providers(connection)),
        ((bots.SESSIONS,), lambda: bots.read_sessions(connection)),
        ((bots.TOKEN_EXPIRES_IN,), lambda: bots.read_tokens(connection)),
        (queues.WEBHOOK_SIGNALS, lambda: queues.read_webhooks(connection)),
        (queues.OUTBOX_SIGNALS, lambda: queues.read_outbox(connection, everywhere, past)),
        ((servers.RETENTION_AGE, servers.RETENTION_DELETED), lambda: servers.read_retention(connection)),
        (queues.DEAD_LETTER_SIGNALS, lambda: queues.read_dead_letters(connection, past)),
    )
    for signals, read in groups:
        found.take(signals, read)
    found.findings["bots"] = verdict.findings_of_bots(troubles)
