"""Another login of the machine cannot act as our user through the ports of a session's browser and driver."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import websocket

from bisnesctl import wajs
from bisnesctl.host import browsers, confine
from services.connectors.wwebjs.browser import chromium, process_tree
from services.connectors.wwebjs.browser.browser import Browser, BrowserOptions
from tests.support.waiting import HANG_SECONDS, wait_until

#: A user of the machine that is not ours; as an ordinary user there is none that a test could become.
STRANGER = 65534
# Such a kernel confines nothing: SECURITY.md says so, and `start` warns of it (unit/bisnesctl/test_exposure.py).
landlock = pytest.mark.skipif(confine.version() == 0, reason="this kernel has no Landlock")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    folder = tmp_path_factory.mktemp("confined")
    browser = Browser(BrowserOptions(folder / "profile", "about:blank", wajs.fetch()))
    browser.launch(HANG_SECONDS)
    yield browser
    browser.kill()


@pytest.fixture
def common_folder(open_folder):
    """A folder in which every user may write."""
    open_folder.chmod(0o777)
    return open_folder


def port_of(pid):
    """The TCP port on which a process listens on 127.0.0.1."""
    sockets = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
            return int(fields[1].partition(":")[2], 16)
    return None


def as_a_stranger(code, *arguments):
    """Run Python code as another user, if the test may become one; returns its output."""
    become = ("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups") if os.geteuid() == 0 else ()
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    command = [*become, python, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS, check=True).stdout


START_A_PROGRAM = """
import http.client, json, sys
port, program = int(sys.argv[1]), sys.argv[2]
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
options = {"binary": program, "args": []}
wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
connection.request("POST", "/session", json.dumps(wanted), {"Content-Type": "application/json"})
print(connection.getresponse().read().decode())
"""


@landlock
def test_a_stranger_cannot_let_the_driver_start_a_program(browser, common_folder):
    program = common_folder / "program"
    program.write_text(f"#!/bin/sh\nid > {common_folder}/ran\n")
    program.chmod(0o755)
    port = wait_until(lambda: port_of(browser.driver_pid))
    said = as_a_stranger(START_A_PROGRAM, str(port), str(program))
    assert "error" in json.loads(said)["value"]
    assert not (common_folder / "ran").exists()
    assert browser.driver_alive


def navigated(port, url):
    """The answer of a browser that opens an address at a command, by the port that every login can reach."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=HANG_SECONDS) as answer:
        [page] = [each for each in json.load(answer) if each["type"] == "page"]
    connection = websocket.create_connection(
        page["webSocketDebuggerUrl"], timeout=HANG_SECONDS, suppress_origin=True, http_no_proxy=["*"]
    )
    with contextlib.closing(connection):
        connection.send(json.dumps({"id": 1, "method": "Page.navigate", "params": {"url": url}}))
        while (answer := json.loads(connection.recv())).get("id") != 1:
            pass
    return answer["result"]


@landlock
def test_the_browser_shows_no_file_outside_of_its_own_folders(browser):
    answer = navigated(port_of(browser.pid), f"file://{Path(__file__).resolve()}")
    assert "ERR_ACCESS_DENIED" in answer["errorText"]


@pytest.fixture
def of_an_ordinary_user(common_folder, monkeypatch):
    """The Chromium of a user who is not root, within its own sandbox and ours; returns its process and its profile."""
    started, profile = [], common_folder / "profile"
    if os.geteuid() == 0:
        monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    monkeypatch.setattr(chromium, "Program", lambda *words: started.append(words))
    chromium.launch(browsers.find_chromium(None), profile, ())
    monkeypatch.undo()
    [(command, _, confined)] = started
    if not confined:
        pytest.skip("this kernel refuses user namespaces, so that Chromium is not confined")
    folders = (profile, chromium.temporary_folder(profile))
    copy = shutil.copy(confine.__file__, common_folder)  # our own folders may be closed to that user
    words, become = [shutil.which("python3", path="/usr/bin") or sys.executable, "-I", "-S", copy, *confined[4:]], []
    if os.geteuid() == 0:
        for folder in folders:
            os.chown(folder, STRANGER, STRANGER)
        become = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(profile), "TMPDIR": str(folders[1])}
    process = subprocess.Popen(
        [*become, *words, *command], env=environment, cwd="/", start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    yield process, profile, command
    process_tree.kill(process.pid)
    process.wait(HANG_SECONDS)
    chromium.remove_temporary(profile)


@landlock
def test_the_browser_of_an_ordinary_user_is_confined_and_keeps_its_own_sandbox(of_an_ordinary_user):
    process, profile, command = of_an_ordinary_user
    assert "--no-sandbox" not in command
    ready = profile / "DevToolsActivePort"
    wait_until(lambda: ready.exists() and ready.read_text().strip(), what=process.poll)
    port = int(ready.read_text().split()[0])
    assert "errorText" not in navigated(port, "data:text/html,<title>Hello</title>")  # a sandboxed process shows it
    assert "ERR_ACCESS_DENIED" in navigated(port, "file:///etc/shells")["errorText"]
    assert os.stat(f"/proc/{process.pid}").st_uid in (STRANGER, os.geteuid())


def test_no_other_user_can_read_a_profile(browser):
    assert browser._options.profile.stat().st_mode & 0o077 == 0


@landlock
def test_a_confined_program_reads_writes_and_starts_only_what_it_may(tmp_path):
    for name in ("read", "write", "none"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    tries = f"""
import pathlib, subprocess, socket
folder = pathlib.Path({str(tmp_path)!r})
def may(action):
    try:
        action()
    except OSError:
        return False
    return True
print([
    may((folder / "read/file").read_text), may(lambda: (folder / "read/file").write_text("x")),
    may((folder / "write/file").read_text), may(lambda: (folder / "write/new").write_text("x")),
    may((folder / "none/file").read_text), may(lambda: (folder / "none/new").write_text("x")),
    may(lambda: subprocess.run(["/bin/true"])),
])
"""
    real = str(Path(sys.executable).resolve())
    rules = [
        "--read", str(tmp_path / "read"), "--write", str(tmp_path / "write"), "--execute", real,
        *(word for each in (sys.prefix, sys.base_prefix, "/lib", "/lib64", "/usr/lib") for word in ("--read", each)),
        *(word for each in sorted(Path("/lib").glob("**/ld-*.so*")) for word in ("--execute", str(each.resolve()))),
    ]  # fmt: skip
    command = [sys.executable, "-I", "-S", confine.__file__, *rules, "--", real, "-I", "-c", tries]
    found = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS, check=False)
    assert found.stdout.strip() == str([True, False, True, True, False, False, False]), found.stderr
