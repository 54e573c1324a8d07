"""A session's browser on the simulated WhatsApp Web: what it does, and everything that may end under it."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bisnesctl import wajs
from bisnesctl.__main__ import main
from bisnesctl.errors import ExitCode
from bisnesctl.host.browsers import ProgramMissing
from services.connectors.wwebjs.browser import process_tree, wajs_contract
from services.connectors.wwebjs.browser.browser import Browser, BrowserOptions
from services.connectors.wwebjs.browser.chromium import StartFailed
from services.connectors.wwebjs.browser.page import CallFailed, CallTimeout, PageLost, TooLarge
from services.connectors.wwebjs.browser.page_events import Lost
from tests.support.sandbox import eventually, free_port
from tests.support.web_page import CHAT, WebSandbox

NUMBER = "60110000003"
NEVER = ("Promise.race", [])
#: Runs a browser and prints its pids, then does nothing.
OWNER = """
import sys, time
from pathlib import Path
from services.connectors.wwebjs.browser.browser import Browser, BrowserOptions
browser = Browser(BrowserOptions(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
browser.launch()
print(browser.pid, browser.driver_pid, flush=True)
time.sleep(600)
"""


class Stage:
    """A browser and the sandbox whose page it shows."""

    def __init__(self, folder):
        self.sandbox = WebSandbox(folder / "sandbox")
        self.profile = folder / "profile"
        self.bundle = wajs.fetch()
        self.browser = self.new()
        self.launch()

    def new(self, **options):
        return Browser(BrowserOptions(self.profile, self.sandbox.page_url, self.bundle, **options))

    def launch(self):
        self.browser = self.new()
        self.browser.launch()
        self.browser.open()
        eventually(lambda: self.browser.page.health().full)

    def relaunch(self):
        """Another browser in place of one that is gone, on the same profile."""
        self.browser.kill()
        self.launch()
        self.works()

    def works(self):
        eventually(lambda: self.browser.page.health().mode == "MAIN")

    @property
    def page(self):
        return self.browser.page

    def events(self, name):
        """The events with this name from now on; waits for the first."""
        while True:
            event = self.browser.events.get()
            assert not isinstance(event, Lost), event
            if event.name == name:
                yield event

    def lost(self):
        """Wait until the browser says that it is lost, and return why."""
        while not isinstance(event := self.browser.events.get(), Lost):
            pass
        assert event.reason == self.browser.lost
        return event.reason

    def emit(self, first, count):
        """Let the page emit events with these numbers."""
        for number in range(first, first + count):
            self.page.call("WPP.emit", "conn.online", number)

    def numbers(self, count):
        told = self.events("conn.online")
        return [next(told).data for _ in range(count)]

    def forget(self):
        """Drop the events received until now."""
        self.emit(-1, 1)
        assert next(each for each in self.events("conn.online") if each.data == -1)

    def run(self, script):
        """Run something in the page over our own connection."""
        return self.browser._event_connection.connection.request("Runtime.evaluate", expression=script)["result"].get(
            "value"
        )

    def kill_driver_once(self, condition):
        driver = self.browser.driver_pid
        eventually(lambda: self.run(condition))
        os.kill(driver, signal.SIGKILL)

    def renderers(self):
        """The processes of pages; that of ours is among them."""
        command = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in process_tree.members(self.browser.pid)}
        return [pid for pid in command if b"--type=renderer" in command[pid]]


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A browser whose page is linked and works."""
    stage = Stage(tmp_path_factory.mktemp("stage"))
    code = eventually(lambda: stage.page.health().qr)
    assert code.count(",") == 4  # wa-js alone knows four of the five fields
    stage.sandbox.scan(NUMBER)
    stage.works()
    yield stage
    stage.browser.kill()
    stage.sandbox.end()


def running(pids):
    """Those of the processes that run."""
    return [pid for pid in pids if pid in process_tree.members(pid)]


def test_the_health_report_describes_the_page(stage):
    health = stage.page.health()
    assert (health.full, health.authenticated, health.online, health.needs_update) == (True, True, True, False)
    assert (health.socket, health.info, health.me) == ("CONNECTED", "NORMAL", f"{NUMBER}@c.us")
    assert health.wa_js == wajs.VERSION
    assert health.qr is None
    assert health.wa_web


def test_a_text_leaves_under_its_key(stage):
    key = stage.page.call("__wa.newKey", CHAT)
    assert stage.page.call("__wa.find", key) is None
    assert stage.page.call("__wa.sight", key) == {"ack": None, "running": False}
    sent = stage.page.call("WPP.chat.sendTextMessage", CHAT, "Hello", {"messageId": key, "linkPreview": False})
    assert sent["id"] == key
    assert stage.page.call("__wa.find", key)["type"] == "chat"
    assert stage.page.call("__wa.sight", key)["ack"] >= 1
    assert [(each["key"], each["arrivals"]) for each in stage.sandbox.wa_sent(text="Hello")] == [(key, 1)]


def test_a_file_is_sent_and_downloaded_unchanged(stage, tmp_path):
    file, copy = tmp_path / "a.pdf", tmp_path / "copy"
    file.write_bytes(b"%PDF-1.4" + os.urandom(3 << 20))
    key = stage.page.call("__wa.newKey", CHAT)
    options = {"type": "document", "filename": "a.pdf", "mimetype": "application/pdf", "messageId": key}
    assert stage.page.send_file(CHAT, file, options)["id"] == key
    found = stage.page.download("WPP.chat.downloadMedia", key, path=copy, limit=10 << 20)
    assert (found.size, found.mime_type) == (file.stat().st_size, "application/pdf")
    assert copy.read_bytes() == file.read_bytes()
    with pytest.raises(TooLarge):
        stage.page.download("WPP.chat.downloadMedia", key, path=tmp_path / "none", limit=1 << 20)
    assert not (tmp_path / "none").exists()


def test_texts_leave_together_and_the_page_reports_how_each_ended(stage):
    stage.forget()
    other = "60123456700@c.us"
    answer = stage.page.call_directly("__wa.admitAll", [(CHAT, False), (other, True)], 3)
    assert [each["found"] for each in answer["messages"]] == [True, True]
    keys = [each["key"] for each in answer["messages"]]
    assert len({*answer["spareIds"], *(key.split("_")[2] for key in keys)}) == 5
    texts = [[chat, "together", {"messageId": key, "linkPreview": False, "waitForAck": False}]
             for chat, key in zip((CHAT, other), keys, strict=True)]  # fmt: skip
    stage.page.call_directly("__wa.sendTexts", [*texts, [other, "never", {"messageId": "nonsense"}]])
    told = stage.events("send.ended")
    reports = {report["key"]: report for report in (next(told).data for _ in range(3))}
    assert [reports[key].get("ack", 0) >= 1 for key in keys] == [True, True]
    assert reports["nonsense"]["failure"]["message"]
    assert [seen["ack"] >= 1 for seen in stage.page.call_directly("__wa.sightAll", keys)] == [True, True]
    assert {each["key"] for each in stage.sandbox.wa_sent(text="together")} == set(keys)


def test_a_direct_call_fails_like_any_other(stage):
    with pytest.raises(CallFailed, match="not a function"):
        stage.page.call_directly("WPP.chat.nothing")
    with pytest.raises(CallTimeout):
        stage.page.call_directly(*NEVER, deadline=0.5)
    before = stage.browser._event_connection.connection
    threading.Timer(0.5, before.close).start()
    with pytest.raises(CallTimeout, match="broke"):
        stage.page.call_directly("Promise.race", [])
    eventually(lambda: stage.browser._event_connection.connection is not before)
    assert stage.page.call_directly("__wa.health")["full"]


def test_an_error_of_the_page_has_its_code(stage, tmp_path):
    key = f"true_{CHAT}_3EB0NOTTHERE"
    with pytest.raises(CallFailed) as failed:
        stage.page.call("WPP.chat.editMessage", key, "?")
    assert failed.value.code == "msg_not_found"
    with pytest.raises(CallFailed) as failed:
        stage.page.download("WPP.chat.downloadMedia", key, path=tmp_path / "none", limit=1)
    assert failed.value.code == "msg_not_found"
    with pytest.raises(CallFailed, match="not a function"):
        stage.page.call("WPP.chat.nothing")


def test_a_promise_that_never_resolves_ends_at_the_deadline(stage, tmp_path):
    with pytest.raises(CallTimeout):
        stage.page.call(*NEVER, deadline=0.5)
    with pytest.raises(CallTimeout):
        stage.page.download(*NEVER, path=tmp_path / "none", limit=1, deadline=0.5)
    assert stage.page.health().full


def test_the_page_has_what_we_need(stage):
    assert [each for each in wajs_contract.examine(stage.page) if not each.ok] == []


def test_a_bundle_is_checked_before_it_is_used(stage, tmp_path, capsys):
    assert main(["wa-js", "check", "--file", str(stage.bundle)]) == ExitCode.OK
    other = tmp_path / "other.js"
    other.write_text(stage.bundle.read_text().replace("queryWidExists", "queryWidExistence"))
    capsys.readouterr()
    assert main(["wa-js", "check", "--file", str(other), "--json"]) == ExitCode.UNHEALTHY
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in found["findings"] if not each["ok"]] == ["WPP.contact.queryWidExists"]
    assert (found["version"], found["sha256"]) == (wajs.VERSION, wajs.digest(other))
    other.write_text("throw 1")
    assert main(["wa-js", "check", "--file", str(other)]) == ExitCode.FAILED
    assert "not WhatsApp Web" in capsys.readouterr().err


def test_events_during_a_broken_connection_are_not_lost(stage):
    stage.forget()
    stage.emit(0, 5)
    connections = {stage.browser._event_connection.connection}
    for first in (5, 10, 15):
        stage.browser._event_connection.connection.close()
        stage.emit(first, 5)
        eventually(lambda: stage.browser._event_connection.connection not in connections)
        connections.add(stage.browser._event_connection.connection)
    assert stage.numbers(20) == list(range(20))
    assert stage.browser.lost is None


def test_the_page_drops_acknowledged_events(stage):
    stage.forget()
    stage.emit(0, 3)
    told = stage.events("conn.online")
    first, second, third = next(told), next(told), next(told)
    stage.browser.acknowledge("another life", third.seq)
    stage.browser.acknowledge(second.boot, second.seq)
    eventually(lambda: first.seq not in [each["seq"] for each in stage.page.call("__wa.since", "", 0)])
    assert third.seq in [each["seq"] for each in stage.page.call("__wa.since", "", 0)]


def test_chromium_survives_the_death_of_its_driver(stage):
    stage.forget()
    boot = stage.page.health().boot
    os.kill(stage.browser.driver_pid, signal.SIGKILL)
    eventually(lambda: not stage.browser.driver_alive)
    stage.emit(0, 3)
    assert stage.browser.driver_alive
    stage.run("window.stuck = () => { window.begun = true; return new Promise(() => {}); }")
    killer = threading.Thread(target=stage.kill_driver_once, args=("window.begun === true",))
    killer.start()
    with pytest.raises(PageLost):
        stage.page.call("stuck")
    killer.join()
    assert (stage.numbers(3), stage.page.health().boot) == ([0, 1, 2], boot)


def test_a_driver_that_hangs_is_replaced(stage):
    stage.forget()
    hanging = stage.browser.driver_pid
    os.kill(hanging, signal.SIGSTOP)
    with pytest.raises(CallTimeout):
        stage.page.health(deadline=0.5)
    assert running([hanging]) == []
    stage.emit(0, 1)
    assert stage.numbers(1) == [0]


def test_a_reloaded_page_has_another_load_id(stage):
    before = stage.page.health().boot
    stage.browser.open()
    loaded = next(stage.events("bridge.loaded"))
    assert (loaded.boot != before, loaded.seq) == (True, 1)
    stage.works()
    stage.forget()
    stage.emit(0, 1)
    assert stage.numbers(1) == [0]


def test_a_hung_page_is_detected_and_ended(stage):
    stage.sandbox.wa("hang", number=NUMBER)

    def hangs():
        try:
            stage.page.health(deadline=0.5)
        except CallTimeout:
            return True
        return False

    eventually(hangs)
    everything = process_tree.members(stage.browser.pid)
    stage.browser.kill()
    assert running(everything) == []
    # A Chromium of another machine held the profile: a container that was replaced.
    lock = stage.profile / "SingletonLock"
    lock.unlink(missing_ok=True)
    lock.symlink_to("another-machine-1")
    stage.relaunch()
    assert stage.profile.stat().st_mode & 0o777 == 0o700


def test_a_page_that_crashes_is_lost(stage):
    for pid in stage.renderers():
        os.kill(pid, signal.SIGKILL)
    assert stage.lost() == "the page crashed"
    with pytest.raises(PageLost, match="the page crashed"):
        stage.page.health()
    stage.relaunch()


def test_a_chromium_that_is_killed_is_lost(stage):
    everything = process_tree.members(stage.browser.pid) | process_tree.members(stage.browser.driver_pid)
    os.kill(stage.browser.pid, signal.SIGKILL)
    assert stage.lost() == "Chromium ended with SIGKILL"
    with pytest.raises(PageLost, match="SIGKILL"):
        stage.page.download(*NEVER, path=stage.profile / "none", limit=1)
    stage.browser.kill()
    assert running(everything) == []
    stage.relaunch()


def test_a_closed_browser_leaves_no_process_and_reports_no_loss(stage):
    everything = process_tree.members(stage.browser.pid) | process_tree.members(stage.browser.driver_pid)
    assert stage.browser.memory() > 50 << 20
    stage.browser.close()
    stage.browser.kill()
    assert running(everything) == []
    while not stage.browser.events.empty():
        assert not isinstance(stage.browser.events.get_nowait(), Lost)
    with pytest.raises(PageLost):
        stage.page.health()
    stage.browser.acknowledge("", 1)


def test_a_browser_ends_with_its_process(stage, tmp_path):
    command = [sys.executable, "-c", OWNER, str(tmp_path / "profile"), stage.sandbox.page_url, str(stage.bundle)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        everything = set().union(*(process_tree.members(int(pid)) for pid in owner.stdout.readline().split()))
        assert len(everything) > 2
        owner.kill()
    eventually(lambda: running(everything) == [])


def test_an_unreachable_address_is_reported(stage, tmp_path):
    browser = Browser(BrowserOptions(tmp_path / "profile", f"http://127.0.0.1:{free_port()}/", stage.bundle))
    try:
        with pytest.raises(PageLost, match="not launched"):
            browser.open()
        browser.launch()
        with pytest.raises(CallFailed, match="ERR_CONNECTION_REFUSED"):
            browser.open()
        with pytest.raises(PageLost, match="not WhatsApp Web"):
            browser.page.health()
    finally:
        browser.kill()


@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        (None, ProgramMissing, "CHROME_PATH"),
        ("exit 3", ProgramMissing, "does not run"),
        ("echo Lynx", ProgramMissing, "not Chromium"),
        (
            '[ "$1" = --version ] && echo Chromium 156.0 && exit; echo no display >&2; exit 21',
            StartFailed,
            "no display",
        ),
        ('[ "$1" = --version ] && echo Chromium 156.0 && exit; sleep 600 & wait', StartFailed, "within 1 s"),
    ],
)
def test_a_chromium_that_does_not_start_says_why(stage, tmp_path, script, error, says):
    program = tmp_path / "chromium"
    if script is not None:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    browser = Browser(BrowserOptions(tmp_path / "profile", stage.sandbox.page_url, stage.bundle, chrome=program))
    with pytest.raises(error, match=says):
        browser.launch(deadline=1)
    assert browser.pid is None or running([browser.pid, *process_tree.members(browser.pid)]) == []
