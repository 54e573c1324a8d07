"""Signals of the machine: its disks with a forecast, memory, load, and the certificate of its public address."""

import contextlib
import math
import os
import socket
import ssl
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from bisnesctl.health.verdict import findings_of_disks
from bisnesctl.host import machine_memory
from bisnesctl.host.volumes import Disk
from bisnesctl.settings import Settings
from bisnesctl.signals import history
from bisnesctl.signals.history import Sample
from bisnesctl.signals.processes import severity
from bisnesctl.signals.ranges import Range
from bisnesctl.signals.signal import FINE, Place, Reading, Runbook, Signal, Unit

#: Seconds for the connection that reads the certificate.
TLS_TIMEOUT_SECONDS = 3.0
_DAY = 86400.0

DISK_HEALTH = Signal(
    "disk_health",
    "Whether a disk can be written and has space.",
    Unit.SEVERITY,
    Place.HOST,
    Runbook(
        "DISK_WARNING_MB and DISK_CRITICAL_MB are the limits, or 10 % and 2 % of a small disk. On a full disk "
        "PostgreSQL cannot accept messages, and browsers damage their profiles.",
        ("bisnesctl health", "df -h", "du -xsh var/* | sort -h"),
        ("Free space: old logs below var/log, media, backups. A read-only disk: see dmesg.",),
    ),
    labels=("mount",),
    warning=Range(-math.inf, 0),
    critical=Range(-math.inf, 1),
    summary="disk {mount} {value}: {reason}",
)
DISK_FREE = Signal(
    history.FREE_SPACE,
    "Space on a disk that may still be written.",
    Unit.BYTES,
    Place.HOST,
    Runbook("disk_health judges it by the settings, disk_full_in by its trend."),
    labels=("mount",),
)
DISK_USED = Signal(
    "disk_used",
    "Share of a disk that is used.",
    Unit.RATIO,
    Place.HOST,
    Runbook("disk_health judges it by the settings, disk_full_in by its trend."),
    labels=("mount",),
)
DISK_FULL_IN = Signal(
    "disk_full_in",
    "Time until a disk is full at the rate of the last days; absent if it does not fill up.",
    Unit.SECONDS,
    Place.HOST,
    Runbook(
        "A straight line through the free space of up to three days. A week is enough to order a larger disk, a day "
        "only to clean up.",
        ("bisnesctl health", "du -xsh var/* | sort -h"),
        ("Lower EVENTS_KEEP_DAYS or LOG_LEVEL, move media to S3, or enlarge the disk.",),
    ),
    labels=("mount",),
    warning=Range(7 * _DAY, math.inf),
    critical=Range(_DAY, math.inf),
    hold_seconds=600,
    summary="disk {mount} is full in {value}: {reason}",
)
HOST_MEMORY = Signal(
    "host_memory_available",
    "Share of the machine's memory that programs can still have.",
    Unit.RATIO,
    Place.HOST,
    Runbook(
        "Below 2 % the kernel soon kills the largest process, often a browser or PostgreSQL.",
        ("free -m", "bisnesctl status"),
        ("Stop sessions that are not needed, or lower API_INSTANCES, META_INSTANCES or MAX_SESSIONS.",),
    ),
    warning=Range(0.05, math.inf),
    critical=Range(0.02, math.inf),
    hold_seconds=60,
    summary="only {value} of the machine's memory is available",
)
HOST_LOAD = Signal(
    "host_load",
    "Programs that want a processor, for each processor (average of 5 minutes).",
    Unit.RATIO,
    Place.HOST,
    Runbook(
        "Above 2 everything is at least twice as slow. Nobody is notified of the load alone: ages and heartbeats "
        "say whether it harms.",
        ("uptime", "top"),
    ),
)
CERTIFICATE_EXPIRES_IN = Signal(
    "certificate_expires_in",
    "Time until the certificate of PUBLIC_URL expires; negative: it has expired.",
    Unit.SECONDS,
    Place.NETWORK,
    Runbook(
        "With an expired certificate no webhook of Meta arrives and no customer reaches the API. Certificates of Let's "
        "Encrypt are renewed 30 days before; fewer than 14 days mean that the renewal fails.",
        ("bisnesctl health", "sudo certbot certificates"),
        ("sudo certbot renew", "sudo systemctl reload nginx"),
    ),
    labels=("host",),
    warning=Range(14 * _DAY, math.inf),
    critical=Range(3 * _DAY, math.inf),
    summary="the certificate of {host} expires in {value}: {reason}",
)
DISK_SIGNALS = (DISK_HEALTH, DISK_FREE, DISK_USED, DISK_FULL_IN)
SIGNALS = (*DISK_SIGNALS, HOST_MEMORY, HOST_LOAD, CERTIFICATE_EXPIRES_IN)


def read_disks(disks: Sequence[Disk], past: Mapping[str, Sequence[Sample]]) -> Iterator[Reading]:
    """The readings of disks. `past`: the history with the values of now."""
    for each in disks:
        labels = {"mount": each.mount}
        found = findings_of_disks([each])
        yield Reading(
            DISK_HEALTH, severity(found[0]) if found else FINE, labels, found[0].health.reason if found else ""
        )
        if each.free is None or not each.total:
            continue
        yield Reading(DISK_FREE, float(each.free), labels)
        yield Reading(DISK_USED, 1 - each.free / each.total, labels)
        if (left := history.empty_in(past.get(history.free_space_name(each.mount), ()))) is not None:
            yield Reading(DISK_FULL_IN, left, labels, f"at about {_moment(time.time() + left)}")


def read_host() -> Iterator[Reading]:
    """The readings of memory and load."""
    memory = machine_memory.read()
    yield Reading(HOST_MEMORY, memory.available / memory.total)
    yield Reading(HOST_LOAD, os.getloadavg()[1] / (os.cpu_count() or 1))


def read_certificate(settings: Settings) -> Iterator[Reading]:
    """The reading of the certificate of PUBLIC_URL, if that address is on the network. Raises `OSError`."""
    parts = urllib.parse.urlsplit(settings.public_url or "")
    if settings.sandbox or parts.scheme != "https" or not parts.hostname:
        return
    labels = {"host": parts.hostname}
    try:
        ends = _certificate_end(parts.hostname, parts.port or 443)
    except ssl.SSLCertVerificationError as error:
        expired = "expired" in error.verify_message
        yield Reading(CERTIFICATE_EXPIRES_IN, -1.0 if expired else 0.0, labels, error.verify_message)
        return
    yield Reading(CERTIFICATE_EXPIRES_IN, ends - time.time(), labels, f"on {_moment(ends)}")


def _certificate_end(host: str, port: int) -> float:
    """When a server's certificate expires, in seconds since the epoch."""
    context = ssl.create_default_context()
    with (
        socket.create_connection((host, port), timeout=TLS_TIMEOUT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        found = secured.getpeercert() or {}
    return ssl.cert_time_to_seconds(str(found["notAfter"]))


def _moment(at: float) -> str:
    with contextlib.suppress(OverflowError, ValueError):
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%MZ")
    return "-"
