"""The page of a process: roles in its tree, what the tree uses, and its restart history."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bisnesctl.database.event_log import LoggedEvent
from bisnesctl.processes.deployment import make_folders, open_deployment, record_start, record_stop
from bisnesctl.processes.topology import Mode, instance_of, program
from bisnesctl.views import process_page
from bisnesctl.views.process_roles import MAX_ROLE_LENGTH, role, without_shim
from tests.support.processes.servers import settings_in

GUNICORN = [
    "/x/.venv/bin/python",
    "-m",
    "gunicorn",
    "-c",
    "python:services.gunicorn_conf",
    "-b",
    "fd://0",
    "services.api.asgi:app",
]
SHIM = ["/x/python", "-I", "-S", "/x/bisnesctl/processes/shim.py", "10", *GUNICORN]


@pytest.mark.parametrize(
    ("command", "parent", "found"),
    [
        (GUNICORN, SHIM, "gunicorn"),
        (GUNICORN, GUNICORN, "worker of gunicorn"),
        (SHIM, ["python3", "-m", "bisnesctl.processes.supervisord"], "shim"),
        (SHIM, SHIM, "shim, inner"),
        (["python3.11", "-m", "bisnesctl.processes.supervisord", "-c", "x"], [], "supervisord"),
        (["python", "-m", "services.sandbox"], ["python", "-m", "services.sandbox"], "sandbox, forked"),
        (["python", "/x/server.py"], [], "server.py"),
        (["postgres: checkpointer "], ["/x/postgres"], "checkpointer"),
        (["postgres: main: bisnes bisnes [local] idle"], [], "bisnes bisnes [local] idle"),
        (["/x/bin/postgres", "-D", "/x"], [], "postgres"),
        (["/usr/lib/chromium/chromium", "--type=renderer", "--x"], [], "browser: renderer"),
        (["/x/chrome --type=utility --utility-sub-type=network.mojom.NetworkService"], [], "browser: NetworkService"),
        (["/x/chrome", "--user-data-dir=/x"], [], "browser"),
        (["/x/chromedriver", "--port=1"], [], "chromedriver"),
        (["redis-server unixsocket:/x"], [], "redis-server"),
        (["x" * 100], [], "x" * (MAX_ROLE_LENGTH - 1) + "…"),
        ([], [], "?"),
        (["python", "-m"], [], "python"),
    ],
)
def test_a_process_has_a_role_instead_of_its_command_line(command: list[str], parent: list[str], found: str) -> None:
    assert role(command, parent) == found


def test_a_command_is_shown_without_the_shim_around_it() -> None:
    assert without_shim(SHIM) == without_shim(GUNICORN) == GUNICORN


#: A process whose child has many files and threads.
TREE = """
import os, sys, threading, time
if os.fork() == 0:
    kept = [open(os.devnull) for _ in range(50)]
    for _ in range(3):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def tree() -> Iterator[tuple[psutil.Process, int]]:
    with subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout
        child = int(started.stdout.readline())
        yield psutil.Process(started.pid), child
        os.kill(child, 9)
        started.kill()


def test_files_are_those_of_the_process_with_the_most_and_threads_those_of_the_tree(
    tree: tuple[psutil.Process, int], tmp_path: Path
) -> None:
    process, child = tree
    settings = settings_in(tmp_path)
    instance = instance_of(program("api"), "api-0", settings)
    row = process_page._idle(open_deployment(settings), instance)
    limits = process_page._limits(instance, row, process_page._tree(process))
    assert limits.open_files_pid == child
    assert limits.open_files == psutil.Process(child).num_fds() > 50
    assert limits.threads == 5
    assert process_page._limits(instance, row, process_page._tree(None)).open_files is None


@pytest.mark.parametrize(
    ("only", "stopped", "expected"),
    [((), False, ("running", "down")), ((), True, ("stopped", "stopped")), (("api",), False, ("stopped", "stopped"))],
)
def test_a_process_that_does_not_run_is_wanted_unless_it_was_stopped_or_left_out(
    tmp_path: Path, only: tuple[str, ...], stopped: bool, expected: tuple[str, str]
) -> None:
    settings = settings_in(tmp_path)
    make_folders(settings)
    record_start(settings.run_dir, Mode.MULTIPROCESS, False, only)
    if stopped:
        record_stop(settings.run_dir)
    deployment = open_deployment(settings)
    row = process_page._idle(deployment, instance_of(program("meta-worker"), "meta-worker-1", settings))
    assert (row.wanted, row.status) == expected
    assert row.memory_limit_bytes == 1024 << 20


@pytest.mark.parametrize(
    ("name", "end"),
    [("api", "services.api.asgi:app"), ("postgres", "max_connections="), ("wwebjs-session", " acme 3")],
)
def test_the_command_of_a_process_that_does_not_run_is_that_of_its_next_start(
    tmp_path: Path, name: str, end: str
) -> None:
    settings = settings_in(tmp_path)
    instance = instance_of(program(name), name, settings, {"company": "acme", "phone": "3"} if "-" in name else None)
    line = " ".join(process_page._next_command(settings, instance))
    assert end in line
    assert "{" not in line


def test_a_command_after_which_nothing_happened_is_not_in_the_history() -> None:
    kinds = ["operator_start", "process_starting", "process_restarting", "operator_stop", "operator_stop",
             "process_stopping", "process_stopped", "operator_stop", "operator_restart"]  # fmt: skip
    events = [LoggedEvent(float(number), "api", kind, "info", {}) for number, kind in enumerate(kinds)][::-1]
    shown = [(each.at, each.kind) for each in process_page._history(events)]
    assert shown == [(8.0, "operator_restart"), (4.0, "operator_stop"), (2.0, "process_restarting"),
                     (0.0, "operator_start")]  # fmt: skip
