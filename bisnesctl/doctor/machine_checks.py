"""Checks of the machine: memory, files, processes, disks, ports, and the start at boot."""

import contextlib
import os
import resource
import shutil
import subprocess
from pathlib import Path

from bisnesctl.doctor.finding import Finding, error, ok, warning
from bisnesctl.doctor.subject import Subject
from bisnesctl.formatting import size
from bisnesctl.health import inspection
from bisnesctl.host import machine_memory, volumes
from bisnesctl.lifecycle import preflight
from bisnesctl.processes import topology
from bisnesctl.processes.render import MAX_OPEN_FILES
from bisnesctl.processes.topology import Mode

#: Threads and processes of one browser session, and of all other instances together.
SESSION_THREADS, OTHER_THREADS = 150, 1000
#: Seconds for `crontab -l`.
CRONTAB_TIMEOUT_SECONDS = 4
#: Seconds in which a running process must answer.
HEALTH_TIMEOUT_SECONDS = 3.0
#: Named instances in a finding, at most.
MAX_NAMED = 5
SYSTEM_UNITS = Path("/etc/systemd/system")
SYSTEM_CRONTABS = (Path("/etc/crontab"), Path("/etc/cron.d"))


def memory(subject: Subject) -> Finding:
    """The machine has the memory that the limits of all instances promise, sessions included."""
    settings = subject.settings
    instances = [each for each in subject.deployment.instances if Mode.MULTIPROCESS in each.program.modes]
    fixed = sum(topology.memory_limit(each.program, settings) or 0 for each in instances if not each.program.dynamic)
    each_session = settings.session_memory_mb << 20
    sessions = min(settings.max_sessions * each_session, settings.wwebjs_memory_mb << 20)
    sessions = sessions if settings.enable_wwebjs else 0
    found = machine_memory.read()
    text = (
        f"limits allow {size(fixed + sessions)}: instances {size(fixed)}, sessions {size(sessions)} (at most "
        f"{settings.max_sessions} times {size(each_session)}, WWEBJS_MEMORY_MB together); this machine has "
        f"{size(found.total)}, {size(found.available)} available"
    )
    if fixed + sessions > found.total:
        fix = f"lower WWEBJS_MEMORY_MB, MAX_SESSIONS or API_INSTANCES in {settings.env_file}, or add memory"
        return warning(text, "limits within the memory of the machine", fix)
    return ok(text)


def open_files(_: Subject) -> Finding:
    """supervisord may raise the limit of open files, which is the limit of connections."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < MAX_OPEN_FILES:
        fix = f"LimitNOFILE={MAX_OPEN_FILES} in the unit, or `ulimit -Hn {MAX_OPEN_FILES}` as root before the start"
        return warning(f"a process may open {hard} files", f"{MAX_OPEN_FILES}", fix)
    return ok("unlimited" if hard == resource.RLIM_INFINITY else f"{hard}")


def processes(subject: Subject) -> Finding:
    """The limit of processes and threads of this user is enough for all sessions."""
    settings = subject.settings
    needed = OTHER_THREADS + (settings.max_sessions * SESSION_THREADS if settings.enable_wwebjs else 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if os.geteuid() != 0 and soft != resource.RLIM_INFINITY and soft < needed:
        fix = f"ulimit -u {needed} before the start, or LimitNPROC={needed} in the unit"
        return warning(f"{soft} (at most {hard})", f"{needed} for {settings.max_sessions} sessions", fix)
    return ok("unlimited" if soft == resource.RLIM_INFINITY else str(soft))


def disks(subject: Subject) -> Finding:
    """All disks that are written to can be written, and have space and inodes."""
    found = volumes.look(subject.settings)
    troubled = [each.trouble for each in found if each.trouble]
    if not troubled:
        return ok("; ".join(f"{each.mount}: {size(each.free)} free of {size(each.total)}" for each in found))
    text = "; ".join(f"{each.mount}: {each.reason}" for each in troubled)
    report = error if any(each.critical for each in troubled) else warning
    fix = f"du -xh --max-depth=2 {troubled[0].mount} | sort -h | tail"
    return report(text, "free space (DISK_WARNING_MB, DISK_CRITICAL_MB)", fix)


def listening_ports(subject: Subject) -> Finding:
    """No two programs have one port, and each port is free or in use by this deployment."""
    instances = [each for each in subject.deployment.instances if Mode.MULTIPROCESS in each.program.modes]
    preflight.check_clashes(subject.settings, instances)
    running = {each.name for each in subject.processes.values() if each.active}
    preflight.check_free(subject.settings, [each for each in instances if each.name not in running])
    used = sorted({each.port for each in instances if each.port is not None})
    return ok(", ".join(map(str, used)) + (" (this deployment runs)" if running else " are free"))


def util_linux(_: Subject) -> Finding:
    """setpriv is installed: it ends programs together with supervisord."""
    found = shutil.which("setpriv", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")
    return ok(found) if found else error("setpriv is missing", "the package util-linux", "apt install util-linux")


def boot(subject: Subject) -> Finding:
    """Something starts the deployment after a reboot."""
    settings = subject.settings
    signs = (str(settings.env_file), str(settings.env_file.parent))
    for unit in _units():
        with contextlib.suppress(OSError):
            text = unit.read_text(errors="replace")
            if "bisnesctl" in text and any(sign in text for sign in signs):
                if list(unit.parent.glob(f"*.wants/{unit.name}")):
                    return ok(f"systemd: {unit.name}")
                fix = f"sudo systemctl enable {unit.name}"
                return warning(f"{unit} is not enabled", "it is started at boot", fix)
    if any("@reboot" in line and "bisnesctl" in line and any(each in line for each in signs) for line in _crontab()):
        return ok("cron: @reboot")
    return warning("neither systemd nor cron starts this deployment at boot", "one does", "sudo bisnesctl startup")


def _units() -> list[Path]:
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"
    return [*sorted(SYSTEM_UNITS.glob("*.service")), *sorted(own.glob("*.service"))]


def _crontab() -> list[str]:
    """The lines of this user's crontab and of the system's."""
    lines: list[str] = []
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["crontab", "-l"], capture_output=True, text=True, timeout=CRONTAB_TIMEOUT_SECONDS, check=False
        )
        lines += done.stdout.splitlines()
    for place in SYSTEM_CRONTABS:
        for file in sorted(place.iterdir()) if place.is_dir() else [place]:
            with contextlib.suppress(OSError):
                lines += file.read_text(errors="replace").splitlines()
    return [each for each in lines if not each.lstrip().startswith("#")]


def running_health(subject: Subject) -> Finding:
    """Everything that runs is healthy, so that a deploy replaces a working deployment."""
    deployment, running = subject.deployment, subject.processes
    if not subject.runs:
        return warning("nothing runs here", "a running deployment", deployment.start_command)
    shown = deployment.shown(running)
    found = inspection.inspect(deployment, shown, running, HEALTH_TIMEOUT_SECONDS)
    bad = [f"{name} ({health.reason or health.status.value})" for name, health in found.items() if not health.healthy]
    if bad:
        return error(f"not healthy: {', '.join(bad[:MAX_NAMED])}", "all instances are healthy", "bisnesctl status")
    return ok(f"{len(found)} instances are healthy")
