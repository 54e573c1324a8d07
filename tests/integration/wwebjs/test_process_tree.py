"""A program and its whole process tree are killed, even on a busy machine."""

import os
import subprocess
import threading
import time

import pytest

from services.connectors.wwebjs.browser import process_tree
from services.connectors.wwebjs.browser.chromium import Program
from tests.support.deployment import alive
from tests.support.waiting import HANG_SECONDS, wait_until

#: A program that prints the pids of its children: one in its session, and one in a session of its own.
TREE = """
import os, time
for number in range(2):
    child = os.fork()
    if child == 0:
        if number:
            os.setsid()
        time.sleep(600)
    print(child, flush=True)
time.sleep(600)
"""


@pytest.fixture
def program(tmp_path):
    found = Program(("python3", "-c", TREE), tmp_path / "log")
    yield found
    found._process.kill()
    found._process.wait(HANG_SECONDS)


def said(tmp_path):
    return [int(line) for line in (tmp_path / "log").read_text().split()]


def kill_ends(program):
    """Whether killing it returns."""
    thread = threading.Thread(target=program.kill, daemon=True)
    thread.start()
    thread.join(HANG_SECONDS)
    return not thread.is_alive()


def test_a_walk_over_proc_that_takes_longer_than_the_deadline_still_kills(program, monkeypatch, tmp_path):
    wait_until(lambda: len(said(tmp_path)) == 2)
    walk = process_tree._all
    monkeypatch.setattr(process_tree, "KILL_TIMEOUT_SECONDS", 0.05)

    def slow_walk():
        time.sleep(0.3)
        return walk()

    monkeypatch.setattr(process_tree, "_all", slow_walk)
    assert kill_ends(program)
    assert not program.alive
    wait_until(lambda: not any(alive(pid) for pid in said(tmp_path)))


def test_children_in_sessions_of_their_own_and_those_that_lost_their_parent_are_killed(tmp_path, program):
    wait_until(lambda: len(said(tmp_path)) == 2)
    assert process_tree.kill(program.pid, frozenset(said(tmp_path)))
    assert not any(alive(pid) for pid in said(tmp_path))


def test_a_process_that_cannot_be_killed_is_left_behind(program, monkeypatch):
    monkeypatch.setattr(process_tree, "KILL_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(os, "kill", lambda *_: None)  # as in an uninterruptible wait
    assert kill_ends(program)
    assert program.alive


def test_a_stopped_program_is_killed(program):
    subprocess.run(["kill", "-STOP", str(program.pid)], check=True)
    assert kill_ends(program)
    assert not program.alive
