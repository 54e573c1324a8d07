"""One process on one page: `bisnesctl describe NAME`."""

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bisnesctl import masking, moments
from bisnesctl.database.event_log import EventFilter, LoggedEvent
from bisnesctl.errors import ConfigError
from bisnesctl.health import event_history, heartbeats, next_steps
from bisnesctl.health.probes import Status
from bisnesctl.host import process_environment, process_memory
from bisnesctl.logs.files import files_of, tail
from bisnesctl.naming import session_name
from bisnesctl.processes import embedded_servers, stop_records
from bisnesctl.processes.deployment import Deployment
from bisnesctl.processes.render import SESSIONS, own_command
from bisnesctl.processes.selection import bot_of
from bisnesctl.processes.started_settings import FOLDER as SETTINGS_FOLDER
from bisnesctl.processes.topology import Instance, memory_limit
from bisnesctl.settings import Settings
from bisnesctl.views import process_roles
from bisnesctl.views.drift import Drift
from bisnesctl.views.overview import Overview, ProcessRow, overview

#: Events, log lines and parts of the restart history that are shown, at most.
MAX_EVENTS, MAX_LINES, MAX_HISTORY = 10, 10, 10
#: Events that are read to find those of the history.
_READ_EVENTS = 200
#: Kinds of events that make the restart history.
_HISTORY = ("process_restarting", "process_blocked", "process_failed", "process_hung", "process_restored",
            "memory_exceeded")  # fmt: skip
#: Local address, remote address and state of a socket.
_Socket = tuple[str, str, str]
#: The settings whose values are secrets, in capitals.
_SECRETS = frozenset(
    name.upper() for name, setting in Settings.model_fields.items() if "SecretStr" in str(setting.annotation)
)


@dataclass(frozen=True)
class RelatedProcess:
    """A parent or a descendant of the process."""

    pid: int
    command: str
    #: PSS.
    memory_bytes: int | None = None
    #: Such as `worker of gunicorn`.
    role: str = "?"


@dataclass(frozen=True)
class ShownFile:
    """A file or folder that belongs to the process."""

    purpose: str
    path: str
    #: None: it does not exist.
    bytes: int | None
    changed_at: str | None


@dataclass(frozen=True)
class Limits:
    """The limits of an instance, and what the guard does at its end."""

    memory_bytes: int | None
    restart_delay_seconds: float
    min_uptime_seconds: int
    #: Quick deaths in a row after which it is still restarted.
    max_restarts: int
    stop_seconds: int
    #: Files and sockets that one process may have open; None: not known.
    open_files_limit: int | None = None
    #: Those of the process of the tree that has the most.
    open_files: int | None = None
    #: Its pid.
    open_files_pid: int | None = None
    #: Threads of the whole tree.
    threads: int | None = None


@dataclass(frozen=True)
class ProcessPage:
    """Everything that is known about one instance."""

    name: str
    about: str
    row: ProcessRow
    #: Why wanted and actual differ, or it is not healthy; empty if all is as it should be.
    why: str
    next: str
    #: Commands to type.
    commands: list[str]
    started_at: str | None
    command_line: list[str]
    user: str | None
    directory: str | None
    environment: dict[str, str]
    limits: Limits
    parents: list[RelatedProcess]
    children: list[RelatedProcess]
    #: Addresses on which it listens.
    ports: list[str]
    #: Connections as `local → remote state`, those to the same address together.
    connections: list[str]
    files: list[ShownFile]
    drift: list[Drift]
    #: How it ended, what the guard decided and what operators did, newest first.
    history: list[LoggedEvent]
    events: list[LoggedEvent]
    #: The last lines of each log, by the name of the file.
    log: dict[str, list[str]]
    #: The bot of a session, as `<company>-<phone index>`.
    bot: str | None = None
    #: Parts that could not be read, and why.
    unseen: list[str] = field(default_factory=list)


def describe(deployment: Deployment, instances: Sequence[Instance], known: Overview | None = None) -> list[ProcessPage]:
    """The pages of these instances, which supervisord or the settings have. `known`: the overview of a moment ago."""
    found = known or overview(deployment)
    rows = {each.name: each for each in found.processes}
    seen = [f"what waits, and events before the guard's files: {found.database_unavailable}"]
    unseen = seen if found.database_unavailable else []
    return [
        _page(deployment, each, rows.get(each.name) or _idle(deployment, each), found.drift, found.condition, unseen)
        for each in instances
    ]


def _idle(deployment: Deployment, instance: Instance) -> ProcessRow:
    """The row of an instance that supervisord does not have, or that it was not asked to run."""
    settings, program = deployment.settings, instance.program
    is_wanted = _is_wanted(deployment, instance)
    return ProcessRow(
        instance.name, program.name, (Status.DOWN if is_wanted else Status.STOPPED).value,
        pid=None, uptime_seconds=None, cpu_percent=None, memory_bytes=None, restarts=0, reason="",
        kind=program.kind.value, wanted="running" if is_wanted else "stopped", state="absent",
        memory_limit_bytes=memory_limit(program, settings),
    )  # fmt: skip


def _is_wanted(deployment: Deployment, instance: Instance) -> bool:
    """Whether it should run: the last start asked for it, and nobody stopped it since."""
    if deployment.was_stopped and deployment.failed_start is None:
        return False
    expected = {each.name for each in deployment.expected()}
    return instance.name in expected and instance.name not in stop_records.read(deployment.settings.run_dir)


def _page(
    deployment: Deployment, instance: Instance, row: ProcessRow, drifts: Iterable[Drift], condition: str,
    unseen: list[str],
) -> ProcessPage:  # fmt: skip
    settings = deployment.settings
    process = _process(row.pid)
    tree = _tree(process)
    sockets = _sockets(tree)
    read = event_history.read(deployment, EventFilter(instances=(instance.name,), limit=_READ_EVENTS))
    why = row.reason or _not_running(deployment, row, condition)
    if process is not None and not _readable(process):
        unseen = [*unseen, f"its environment, files and connections: pid {row.pid} belongs to {_user(process)}"]
    return ProcessPage(
        name=instance.name,
        about=instance.program.about,
        row=row,
        why=why,
        next=_next(row, condition),
        commands=_commands(deployment, row, condition, why),
        started_at=moments.shown(time.time() - row.uptime_seconds) if row.uptime_seconds is not None else None,
        command_line=masking.command_line(_command(process) or _next_command(settings, instance)),
        user=_user(process),
        directory=_directory(process),
        environment=masking.environment(process_environment.read(row.pid or 0), _SECRETS),
        limits=_limits(instance, row, tree),
        parents=[_related(each) for each in _parents(process)],
        children=[_related(each) for each in tree[1:]],
        ports=_ports(sockets),
        connections=_connections(sockets),
        files=_files(settings, instance),
        drift=[each for each in drifts if instance.name in each.instances],
        history=_history(read.events)[:MAX_HISTORY],
        events=read.events[:MAX_EVENTS],
        log={each.path.name: tail(each.path, MAX_LINES) for each in files_of(settings.log_dir, instance.name)},
        bot=bot_of(instance) or None,
        unseen=unseen,
    )


def _history(events: Sequence[LoggedEvent]) -> list[LoggedEvent]:
    """The restart history among these events, newest first. A command after which nothing happened did nothing."""
    found: list[LoggedEvent] = []
    newer = ""
    for each in events:
        if each.kind in _HISTORY or (_is_command(each.kind) and not _is_command(newer)):
            found.append(each)
        newer = each.kind
    return found


def _is_command(kind: str) -> bool:
    return kind.startswith("operator_")


def _not_running(deployment: Deployment, row: ProcessRow, condition: str) -> str:
    """Why it does not run, if nothing runs, or if supervisord was not asked to run it; else empty."""
    if condition == "running":
        return "the last start did not ask for it" if row.state == "absent" and row.wanted == "stopped" else ""
    failed = deployment.failed_start
    if failed is not None and condition in ("new", "stopped", "died"):
        return failed.text
    return {
        "new": "nothing was started here yet",
        "stopped": "everything was stopped on purpose",
        "died": "supervisord does not run, although nobody stopped it",
        "stopping": "everything is being stopped",
        "silent": "supervisord does not answer",
    }[condition]


def _next(row: ProcessRow, condition: str) -> str:
    """The next thing that happens without an operator."""
    if condition != "running":
        return "nothing, until somebody starts it"
    match row.status:
        case "healthy":
            return "it runs on"
        case "starting":
            return "it becomes healthy, or the guard decides about it after its end"
        case "failing":
            return "the guard starts it again"
        case "blocked":
            ends = "blocked until" in row.reason
            return "the guard starts it after its block" if ends else "nothing, until somebody starts it"
        case "failed" | "down":
            return "nothing, until somebody starts it"
        case "stopped":
            return "it stays stopped until somebody starts it"
        case "outdated" | "extra":
            return "it runs on as it is, until a restart"
        case _:
            return "the guard restarts it if it hangs or ends"


def _commands(deployment: Deployment, row: ProcessRow, condition: str, why: str) -> list[str]:
    if condition == "silent":
        return ["bisnesctl stop", deployment.start_command]
    if condition != "running":
        return [deployment.start_command]
    return [*next_steps.commands(Status(row.status), row.name, row.program, why), f"bisnesctl logs {row.name} -f"]


# --- The process of the operating system -----------------------------------------------------------------------------


def _process(pid: int | None) -> psutil.Process | None:
    with contextlib.suppress(psutil.Error, ValueError):
        return psutil.Process(pid) if pid else None
    return None


def _readable(process: psutil.Process) -> bool:
    return os.access(f"/proc/{process.pid}/environ", os.R_OK)


def _command(process: psutil.Process | None) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline() if process else []
    return []


def _next_command(settings: Settings, instance: Instance) -> tuple[str, ...]:
    """The command line of its next start; empty if a program for it is not installed."""
    try:
        variables = embedded_servers.command_variables(settings) if instance.program.is_server else {}
    except ConfigError:
        return ()
    return own_command(instance.program, settings, variables | instance.variables)


def _user(process: psutil.Process | None) -> str | None:
    with contextlib.suppress(psutil.Error):
        return process.username() if process else None
    return None


def _directory(process: psutil.Process | None) -> str | None:
    with contextlib.suppress(psutil.Error):
        return process.cwd() if process else None
    return None


def _parents(process: psutil.Process | None) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return process.parents() if process else []
    return []


def _tree(process: psutil.Process | None) -> list[psutil.Process]:
    """The process, then its descendants; empty if there is none."""
    if process is None:
        return []
    with contextlib.suppress(psutil.Error):
        return [process, *process.children(recursive=True)]
    return [process]


def _related(process: psutil.Process) -> RelatedProcess:
    with contextlib.suppress(psutil.Error):
        command, parent = process.cmdline(), process.parent()
        shown = " ".join(masking.command_line(command)) or process.name()
        memory = process_memory.proportional(process.pid) or process.memory_info().rss
        role = process_roles.role(command or [process.name()], _command(parent))
        return RelatedProcess(process.pid, shown, memory, role)
    return RelatedProcess(process.pid, "?")


def _limits(instance: Instance, row: ProcessRow, tree: Sequence[psutil.Process]) -> Limits:
    program = instance.program
    used = [(each.pid, *found) for each in tree if (found := _files_and_threads(each)) is not None]
    pid, files, limit, _ = max(used, key=lambda each: each[1], default=(None, None, None, 0))
    threads = sum(each[3] for each in used) if used else None
    return Limits(
        row.memory_limit_bytes, program.restart_delay, program.min_uptime, program.max_restarts, program.kill_timeout,
        limit, files, pid, threads,
    )  # fmt: skip


def _files_and_threads(process: psutil.Process) -> tuple[int, int, int] | None:
    """How many files a process has open, its limit, and how many threads it has; None if it may not be read."""
    with contextlib.suppress(psutil.Error):
        return process.num_fds(), process.rlimit(psutil.RLIMIT_NOFILE)[0], process.num_threads()
    return None


def _sockets(tree: Sequence[psutil.Process]) -> list[_Socket]:
    """The sockets of the tree on the network."""
    found = []
    for each in tree:
        with contextlib.suppress(psutil.Error):
            found += [
                (_place(one.laddr), _place(one.raddr), str(one.status)) for one in each.net_connections(kind="inet")
            ]
    return found


def _place(address: tuple[str, int] | tuple[()]) -> str:
    if not address:
        return ""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _ports(sockets: Iterable[_Socket]) -> list[str]:
    return sorted({local for local, _, state in sockets if state == psutil.CONN_LISTEN})


def _connections(sockets: Iterable[_Socket]) -> list[str]:
    counts: dict[str, int] = {}
    for _, remote, state in sockets:
        if remote:
            text = f"{remote} {state.lower()}"
            counts[text] = counts.get(text, 0) + 1
    return [f"{text} ({count})" if count > 1 else text for text, count in sorted(counts.items())]


# --- Files -----------------------------------------------------------------------------------------------------------


def _files(settings: Settings, instance: Instance) -> list[ShownFile]:
    name = instance.name
    found = [("error log" if each.is_error else "log", each.path) for each in files_of(settings.log_dir, name)]
    beat = settings.heartbeat_dir / f"{name}.json"
    if instance.program.probe in ("heartbeat", "http") or heartbeats.current(settings, name) is not None:
        found.append(("heartbeat", beat))
    found.append(("settings at its start", settings.run_dir / SETTINGS_FOLDER / f"{name}.json"))
    if instance.program.dynamic:
        found.append(("configuration", settings.run_dir / SESSIONS / f"{name}.conf"))
        company, _, phone = bot_of(instance).rpartition("-")
        if phone.isdigit():
            found.append(("profile", settings.profile_dir / session_name(company, int(phone))))
    return [_file(purpose, path) for purpose, path in found]


def _file(purpose: str, path: Path) -> ShownFile:
    try:
        stat = path.stat()
    except OSError:
        return ShownFile(purpose, str(path), None, None)
    return ShownFile(purpose, str(path), stat.st_size, moments.shown(stat.st_mtime))
