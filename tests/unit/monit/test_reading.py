"""The reading of the live screen, from files alone; the end of the command without a terminal or Textual."""

import sys
import threading

import pytest

from bisnesctl.cli.monit import monit
from bisnesctl.errors import Unavailable, UsageError
from bisnesctl.logs.files import files_of
from bisnesctl.monit.log_feed import MAX_RECORDS, LogFeed
from bisnesctl.monit.poller import Poller
from bisnesctl.monit.source import Source
from tests.support.waiting import HANG_SECONDS, wait_until


def test_a_log_is_followed_across_a_rotation(tmp_path):
    path = tmp_path / "api-0.log"
    path.write_text("one\n")
    feed = LogFeed(files_of(tmp_path, "api-0"))
    assert [each.text for each in feed.read()] == ["one"]
    path.rename(tmp_path / "api-0.log.1")
    path.write_text("".join(f"timestamp=2026-01-31T08:30:00Z level=info event=e n={n}\n" for n in range(MAX_RECORDS)))
    found = [each.text for each in feed.read()]
    feed.close()
    assert len(found) == MAX_RECORDS
    assert found[-1].endswith(f"n={MAX_RECORDS - 1}")


def test_a_folder_without_a_deployment_is_new(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BISNES_ENV", str(tmp_path / ".env"))
    monkeypatch.setenv("BISNES_HOME", str(tmp_path / "var"))
    found = Source().snapshot()
    assert found.overview.condition == "new"
    assert (found.overview.processes, found.bots, found.owner) == ([], [], "")


def test_a_poller_goes_on_after_an_error():
    failed, calls, read = [], [], threading.Event()

    def fail_once():
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("broken")
        read.set()

    poller = Poller(fail_once, 3600, failed.append)
    poller.start()
    wait_until(lambda: failed)
    poller.wake()
    assert read.wait(HANG_SECONDS)
    poller.stop()
    assert failed == ["broken"]


def test_without_a_terminal_the_command_names_another(monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(UsageError, match="status --json"):
        monit()


def test_without_textual_the_command_says_what_to_install(monkeypatch):
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    for name in [each for each in sys.modules if each.partition(".")[0] == "textual" or each == "bisnesctl.monit.app"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "textual", None)
    with pytest.raises(Unavailable, match="scripts/provision"):
        monit()
