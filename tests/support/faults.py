"""Faults that a running deployment must survive: kills, freezes and servers that forget, each by its name."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

import psycopg2
import redis

from bisnesctl.errors import BisnesError
from tests.support.deployment import descendants
from tests.support.web_deployment import WebDeployment, command_of

#: How long a frozen server stays so: longer than a client waits for it.
FREEZE_SECONDS = 8.0
#: How long a frozen worker stays so: longer than the lease of its messages in the test's settings.
WORKER_FREEZE_SECONDS = 16.0
#: After how many seconds a command of the tool is killed in the middle.
COMMAND_SECONDS = 1.0
#: The phone index of the WhatsApp Web number whose processes are killed.
INDEX = 1

Fault = Callable[[WebDeployment], None]


def _kill(pids: Iterable[int], signum: signal.Signals = signal.SIGKILL) -> None:
    for pid in filter(None, pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def _pid(deployment: WebDeployment, name: str) -> list[int]:
    with contextlib.suppress(BisnesError, LookupError):  # it was killed, or supervisord was
        return [deployment.pid(name)]
    return []


def _process(name: str) -> Fault:
    """SIGKILL the process that supervisord runs under this name."""
    return lambda deployment: _kill(_pid(deployment, name))


def _postgres(title: str) -> Fault:
    """SIGKILL PostgreSQL's processes with this in their title; the server recovers from its log."""

    def kill(deployment: WebDeployment) -> None:
        below = [pid for parent in _pid(deployment, "postgres") for pid in sorted(descendants(parent))]
        _kill([pid for pid in below if title in " ".join(command_of(pid))][:1])

    return kill


def _part(part: str) -> Fault:
    """SIGKILL a part of the WhatsApp Web session."""

    def kill(deployment: WebDeployment) -> None:
        deployment.kill_part(part, INDEX)

    return kill


def _renderer(deployment: WebDeployment) -> None:
    browser = deployment.part("browser", INDEX)
    below = sorted(descendants(browser)) if browser else []
    _kill(pid for pid in below if "--type=renderer" in command_of(pid))


def _frozen(name: str, seconds: float = FREEZE_SECONDS) -> Fault:
    """Freeze a process and everything below it, then let it continue."""

    def freeze(deployment: WebDeployment) -> None:
        pids = [pid for parent in _pid(deployment, name) for pid in (parent, *descendants(parent))]
        _kill(pids, signal.SIGSTOP)
        time.sleep(seconds)
        _kill(pids, signal.SIGCONT)

    return freeze


def _flush(deployment: WebDeployment) -> None:
    with contextlib.suppress(redis.RedisError):  # it may have just been killed
        redis.Redis.from_url(deployment.settings.redis_dsn).flushall()


def _disconnect(deployment: WebDeployment) -> None:
    with contextlib.suppress(psycopg2.Error):
        deployment.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")


def _supervisord(deployment: WebDeployment) -> None:
    _kill([int((deployment.settings.run_dir / "supervisord.pid").read_text())])
    deployment.run("start", "--multiprocess", "--sandbox")


def _command(*words: str) -> Fault:
    """SIGKILL a command of the tool in the middle, then do as its user would: start again."""

    def interrupt(deployment: WebDeployment) -> None:
        command = [sys.executable, "-m", "bisnesctl", *words]
        with subprocess.Popen(
            command, cwd=deployment.folder, env=deployment.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as running:  # fmt: skip
            time.sleep(COMMAND_SECONDS)
            running.kill()
        deployment.run("start", "--multiprocess", "--sandbox")

    return interrupt


#: All faults. Those of one process come first, those of servers next, those that concern everything last.
FAULTS: dict[str, Fault] = {
    "api": _process("api-0"),
    "second api": _process("api-1"),
    "meta": _process("meta"),
    "worker 1": _process("meta-worker-1"),
    "worker 2": _process("meta-worker-2"),
    "worker frozen": _frozen("meta-worker-1", WORKER_FREEZE_SECONDS),
    "events": _process("events"),
    "events frozen": _frozen("events"),
    "guard": _process("guard"),
    "alerts": _process("alerts"),
    "manager": _process("wwebjs"),
    "session": _part("session"),
    "browser": _part("browser"),
    "driver": _part("driver"),
    "renderer": _renderer,
    "redis": _process("redis"),
    "redis frozen": _frozen("redis"),
    "redis forgets": _flush,
    "postgres": _process("postgres"),
    "postgres frozen": _frozen("postgres"),
    "backend": _postgres("bisnes"),
    "walwriter": _postgres("walwriter"),
    "checkpointer": _postgres("checkpointer"),
    "disconnected": _disconnect,
    "supervisord": _supervisord,
    "restart killed": _command("restart", "api"),
    "stop killed": _command("stop"),
    "rollback killed": _command("rollback"),
}
