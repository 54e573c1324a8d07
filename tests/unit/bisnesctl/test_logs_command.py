"""`bisnesctl logs` as it is typed, over the files of a deployment that does not run."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bisnesctl.__main__ import main
from bisnesctl.errors import ExitCode
from tests.support.documents import ROOT
from tests.support.waiting import HANG_SECONDS

API = (
    "timestamp=2026-01-31T12:00:00Z level=debug event=message.accepted message_id=m-1 request_id=r-1\n"
    "timestamp=2026-01-31T12:00:04Z level=error event=request.failed path=/x company=0128 phone=2\n"
)
WORKER = "timestamp=2026-01-31T12:00:01Z level=info event=message.retried message_id=m-1 code=131026\n"
SUPERVISORD = "2026-01-31 12:00:02,000 WARN exited: api-0 (exit status 1; not expected)\n"
CRASH = (
    "[2026-01-31 12:00:03 +0000] [7] [ERROR] Exception\nTraceback (most recent call last):\nValueError: \x1b[2Jbad\n"
)
CRASHED_AT = datetime(2026, 1, 31, 12, 0, 3, tzinfo=UTC).timestamp()

Run = Callable[..., str]


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `bisnesctl logs` with these words and returns what it shows, with its remarks at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    assert main(["init"]) == 0
    folder = tmp_path / "var" / "log"
    folder.mkdir(parents=True)
    files = {"api-0.log": API, "api-0.err.log": CRASH, "meta-worker-1.log.1": WORKER, "meta-worker-1.log": "",
             "supervisord.log": SUPERVISORD, "events.log": "", "api-7.log": "once\n"}  # fmt: skip
    for name, text in files.items():
        (folder / name).write_text(text)
    os.utime(folder / "api-0.err.log", (CRASHED_AT, CRASHED_AT))

    def run(*words: str, code: ExitCode = ExitCode.OK) -> str:
        capsys.readouterr()
        assert main(["logs", *words]) == code
        shown = capsys.readouterr()
        return shown.out + shown.err

    return run


def test_all_processes_are_shown_in_the_order_of_time(logs: Run) -> None:
    shown = [line.split()[0] + " " + line.split()[1] for line in logs().splitlines()]
    assert shown == ["api-0 |", "meta-worker-1 |", "supervisord |", *["api-0 !"] * 3, "api-0 |", "api-7 |"]


def test_one_process_has_no_prefix_and_acts_on_no_terminal(logs: Run) -> None:
    assert logs("meta-worker-1") == WORKER
    assert logs("api-0", "--err").endswith("ValueError: \\x1b[2Jbad\n")
    assert logs("supervisord") == SUPERVISORD
    assert logs("api-7") == "once\n"  # it does not exist any more


def test_names_of_the_former_system_are_known(logs: Run) -> None:
    assert WORKER in logs("bisnesgpt-meta")
    assert "request.failed" in logs("bisnesgpt-api")


@pytest.mark.parametrize(
    ("words", "events"),
    [
        (("--level", "warning"), ["exited", "Traceback", "request.failed"]),
        (("--level", "ERROR", "--since", "2026-01-31T12:00:04Z"), ["request.failed"]),
        (("--until", "2026-01-31T12:00:01Z"), ["message.accepted", "message.retried"]),
        (("--grep", "VALUEerror", "-i"), ["Traceback"]),
        (("--grep", "message", "--grep", "retried"), ["message.retried"]),
        (("--message", "m-1"), ["message.accepted", "message.retried"]),
        (("--message", "r-1"), ["message.accepted", "message.retried"]),
        (("--message", "r-1", "--lines", "1", "api"), ["message.accepted"]),
        (("--err",), ["Traceback"]),
    ],
)
def test_filters(logs: Run, words: tuple[str, ...], events: list[str]) -> None:
    shown = [json.loads(line) for line in logs(*words, "--json").splitlines() if line.startswith("{")]
    words_of = [
        each["event"] or next(word for word in ("exited", "Traceback") if word in each["text"]) for each in shown
    ]
    assert words_of == events


def test_lines_about_a_bot_are_found_without_the_database(logs: Run) -> None:
    shown = logs("--bot", "0128-2")
    assert "request.failed" in shown
    assert "message" not in shown.partition("warning:")[0]
    assert "warning: lines that name the bot by its number in the database are not shown" in shown


def test_json_has_one_object_for_a_record(logs: Run) -> None:
    first = json.loads(logs("--json", "--grep", "retried"))
    assert first == {
        "time": "2026-01-31T12:00:01.000Z", "process": "meta-worker-1", "stream": "out", "level": "info",
        "event": "message.retried", "fields": {"message_id": "m-1", "code": "131026"}, "text": WORKER.rstrip(),
    }  # fmt: skip


def test_silence_is_explained(logs: Run) -> None:
    assert "events has logged nothing since " in logs("events")
    assert "meta has not logged anything yet in " in logs("meta")
    assert logs("--grep", "nowhere") == "no line matches\n"
    assert "log-level all debug" in logs("--message", "m-9")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nobody",), "unknown name nobody"),
        (("--level", "loud"), "debug, info, warning, error, critical"),
        (("--since", "soon"), "30m, 2h"),
        (("--grep", "("), "regular expression"),
        (("--bot", "0128"), "0128-2"),
        (("--until", "1h", "--follow"), "--until"),
        (("--since", "1h", "--until", "2h"), "before"),
        (("--message", " "), "X-Request-Id"),
    ],
)
def test_a_wrong_word_is_named(logs: Run, words: tuple[str, ...], says: str) -> None:
    assert says in logs(*words, code=ExitCode.USAGE)


def test_a_reader_that_ends_early_ends_the_command_without_a_word(logs: Run, tmp_path: Path) -> None:
    (tmp_path / "var" / "log" / "api-0.log").write_text(API * 20_000)
    tool = subprocess.Popen([sys.executable, "-m", "bisnesctl", "logs", "--all"], stdout=-1, stderr=-1, text=True)
    assert tool.stdout is not None
    assert tool.stderr is not None
    tool.stdout.readline()
    tool.stdout.close()
    assert (tool.wait(), tool.stderr.read()) == (ExitCode.PIPE_CLOSED, "")
    tool.stderr.close()


#: Runs the tool as a user whom the files do not belong to, since root reads everything. A first run loads all modules,
#: which that user may not read either.
AS_STRANGER = """
import contextlib, io, os, sys
from bisnesctl.__main__ import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    main(["logs"])
if os.geteuid() == 0:
    os.seteuid(65534)
sys.exit(main(["logs"]))
"""


def logs_of_a_stranger(home: Path) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], "BISNES_ENV": str(home / ".env"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, "-c", AS_STRANGER], env=environment, cwd=ROOT, text=True,
                          capture_output=True, check=False, timeout=HANG_SECONDS)  # fmt: skip


@pytest.fixture
def open_home(open_folder: Path) -> Path:
    """A folder that every user may enter, with two logs."""
    (open_folder / "var/log").mkdir(parents=True)
    for name in ("api-0.log", "api-1.log"):
        (open_folder / "var/log" / name).write_text(f"a line of {name}\n")
        (open_folder / "var/log" / name).chmod(0o644)
    for folder in (open_folder / "var", open_folder / "var/log"):
        folder.chmod(0o755)
    return open_folder


@pytest.mark.parametrize("forbidden", [["log"], ["log/api-0.log", "log/api-1.log"]])
def test_files_of_another_user_are_reported_in_one_line(open_home: Path, forbidden: list[str]) -> None:
    for path in forbidden:
        (open_home / "var" / path).chmod(0)
    done = logs_of_a_stranger(open_home)
    (open_home / "var/log").chmod(0o755)
    assert (done.returncode, done.stdout) == (ExitCode.CONFLICT, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {open_home / 'var' / forbidden[0]}: permission denied. ")


def test_a_file_of_another_user_hides_no_other(open_home: Path) -> None:
    (open_home / "var/log/api-0.log").chmod(0)
    done = logs_of_a_stranger(open_home)
    assert done.returncode == 0, done.stderr
    assert "a line of api-1.log" in done.stdout
    assert done.stderr.startswith(f"warning: {open_home / 'var/log/api-0.log'}: permission denied. ")
