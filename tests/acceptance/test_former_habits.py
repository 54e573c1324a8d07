"""Each command that the page for users of PM2 names works on a real deployment, and says what they look for."""

import contextlib
import functools
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deployment import Deployment
from tests.support.documents import ROOT
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until

PAGE = ROOT / "docs/how-to/from-pm2.md"
#: Each command of the page that leaves everything as it is → an expression that its output matches.
READING = {
    "bisnesctl status": r"(?s)api-0 +running +running +healthy.*dashboard +running +running",
    "bisnesctl status --json": r'"name": "api-0"',
    "bisnesctl status api": r"api-0 +running +running +healthy",
    "bisnesctl status api --columns name,pid": r"api-0 +\d+",
    "bisnesctl describe bisnesgpt-api": r"(?s)Command.*gunicorn",
    "bisnesctl describe api-0 --env": r"environment",
    "bisnesctl logs": r"supervisord",
    "bisnesctl logs bisnesgpt-meta --lines 50": r"meta",
    "bisnesctl logs --err": r"",  # nothing went wrong
    "bisnesctl logs --grep redis": r"(?i)redis",
    "bisnesctl logs --since 10m": r"supervisord",
    "bisnesctl events --since 1h": r"api-0 .*starts",
    "bisnesctl health": r"api-0 +healthy",
    "bisnesctl queue stats": r"(?s)waiting.*completed",
    "bisnesctl doctor --pre-deploy": r"postgresql",
    "bisnesctl migrate": r"up to date",
    "bisnesctl save": r"nothing needs saving",
    "bisnesctl startup --print": r'ExecStart=.* "start"',
}
#: Commands of the page that draw a screen until `q` is pressed → an expression that the screen matches.
SCREENS = {"bisnesctl monit": r"api-0"}
#: Each command of the page that changes what runs, in an order that makes sense → an expression of its output.
CHANGING = {
    "bisnesctl start --multiprocess": r"running.* dashboard http://.*/ui",
    "bisnesctl start --multiprocess --sandbox": r"running",
    "bisnesctl stop bisnesgpt-meta": r"stopped .*meta-worker-1",
    "bisnesctl start bisnesgpt-meta": r"started .*meta-worker-1",
    "bisnesctl restart bisnesgpt-api": r"api-0",
    "bisnesctl restart all": r"(?s)api-0.*meta-worker-1|meta-worker-1.*api-0",
    "bisnesctl reload": r"api-0",
    "bisnesctl scale api=3": r"api +3 +3",
    "bisnesctl scale meta=4": r"meta-worker +4 +4",
    "API_INSTANCES=4 bisnesctl restart bisnesgpt-api": r"api-3",
    "bisnesctl startup --remove --user": r"bisnesctl\.service",
    "bisnesctl stop all": r"everything has stopped",
    "bisnesctl start --multiprocess --only bisnesgpt-api,bisnesgpt-meta": r"running",
    "bisnesctl start": r"started last",
    "bisnesctl rollback": r"legacy",
}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    deployment = Deployment(
        tmp_path_factory.mktemp("habits"), API_INSTANCES="1", META_INSTANCES="1", ENABLE_WWEBJS="false",
        ENABLE_DASHBOARD="true", SANDBOX="true",
    )  # fmt: skip
    try:
        deployment.run("start", "--multiprocess")
        deployment.add_demo_bot("0128")
        yield deployment
    finally:
        deployment.close()


@pytest.fixture(scope="module")
def terminal(deployment):
    """A shell in the deployment's folder, without a systemd of the user's."""
    environment = deployment.environment | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(deployment.folder),
    }  # fmt: skip
    return Terminal(deployment.folder, environment, {})


def commands_of_the_page():
    """The commands in the column of ours."""
    rows = [line.split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    cells = [row[1] for row in rows if row[1] != "here"]
    assert [cell for cell in cells if not re.fullmatch(r"`[^`]+`", cell)] == []
    return {cell.strip("`") for cell in cells}


def test_every_command_of_the_page_is_run_here():
    ours = {command for command in commands_of_the_page() if "bisnesctl " in command}
    assert ours == READING.keys() | SCREENS.keys() | CHANGING.keys()
    scripts = commands_of_the_page() - ours
    assert {command for command in scripts if not (ROOT / command).is_file()} == set()


def check(done, expected):
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert re.search(expected, done.stdout + done.stderr), f"{done.stdout}{done.stderr}"


@pytest.mark.parametrize("command", READING)
def test_a_command_that_reads(deployment, terminal, command):
    if command == "bisnesctl health":  # on a busy machine something may be slow for a moment
        wait_until(
            lambda: terminal.run(command, check=False).returncode == 0,
            what=lambda: terminal.run(command, check=False).stdout,
        )
    check(terminal.run(command, check=False), READING[command])


@pytest.mark.parametrize("command", SCREENS)
def test_a_screen_is_drawn_and_q_ends_it(terminal, command):
    with screen(terminal, command) as (process, press, drawn):
        wait_until(lambda: re.search(SCREENS[command], drawn()) or process.poll() is not None, what=drawn)
        press(b"q")
        wait_until(lambda: drawn() and process.poll() is not None, what=drawn)
    assert process.returncode == 0, drawn()
    assert re.search(SCREENS[command], drawn())


@contextlib.contextmanager
def screen(terminal, command):
    """A command in a terminal of 24 rows and 80 columns, and functions that press keys and return all that it drew."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    pieces = []

    def drawn():
        with contextlib.suppress(BlockingIOError, OSError):
            while piece := os.read(ours, 65536):
                pieces.append(piece)
        return b"".join(pieces).decode(errors="replace")

    environment = terminal.environment | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(
        command.split(), cwd=terminal.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield process, functools.partial(os.write, ours), drawn
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(ours)


def test_commands_that_change_what_runs(deployment, terminal):
    for command, expected in CHANGING.items():
        check(terminal.run(command, check=False), expected)
    assert {name for name, each in deployment.status().items() if each["pid"]} >= {"legacy"}
