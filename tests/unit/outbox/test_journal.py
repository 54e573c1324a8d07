import os
import signal
import subprocess
import sys
import textwrap

import pytest

from services.outbox.journal import Journal, JournalInUse, marked, stamp, unowned


def test_marks_outlive_the_process_that_is_killed(tmp_path):
    path = tmp_path / "w.journal"
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from services.outbox.journal import Journal
        journal = Journal(Path(sys.argv[1]), 8)
        journal.begin("run-1")
        for slot, message in enumerate((11, 12, 13)):
            journal.mark(slot, message)
        journal.clear(1)
        print("marked", flush=True)
        time.sleep(60)
    """)
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"marked\n"
    with unowned(path) as dead:
        assert not dead
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with unowned(path) as dead:
        assert dead
    assert marked(path, "run-1") == {11, 13}


def test_nothing_can_be_marked_before_the_run_has_begun(tmp_path):
    own = Journal(tmp_path / "w.journal", 4)
    assert not own.usable()
    own.begin("run-1")
    assert own.usable()


def test_a_journal_of_another_run_says_nothing(tmp_path):
    path = tmp_path / "w.journal"
    assert marked(path, "run-1") is None
    own = Journal(path, 4)
    own.begin("run-2")
    own.mark(0, 5)
    assert marked(path, "run-2") == {5}
    assert marked(path, "run-1") is None


def test_a_journal_of_an_earlier_boot_says_nothing(tmp_path, monkeypatch):
    path = tmp_path / "w.journal"
    Journal(path, 4).begin("run-1")
    now = stamp("run-1")
    monkeypatch.setattr("services.outbox.journal.stamp", lambda run: now[:-1] + b"x")
    assert marked(path, "run-1") is None


def test_two_processes_cannot_share_an_instance_name(tmp_path):
    first = Journal(tmp_path / "w.journal", 4)
    with pytest.raises(JournalInUse):
        Journal(tmp_path / "w.journal", 4)
    del first


def test_a_journal_that_was_never_written_has_no_owner(tmp_path):
    with unowned(tmp_path / "none.journal") as dead:
        assert dead
