"""The command line's surface: help with examples, exit codes, one line for an error."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from bisnesctl.__main__ import load_commands, main
from bisnesctl.cli.app import app
from bisnesctl.errors import BisnesError, Conflict, ExitCode
from bisnesctl.formatting import duration, size
from bisnesctl.lifecycle import env_creation
from bisnesctl.paths import shipped_folder
from bisnesctl.processes.deployment import make_folders, open_deployment, record_start, record_stop
from bisnesctl.processes.topology import Mode
from bisnesctl.settings import load_partly
from bisnesctl.terminal.habits import ALIASES, ANSWERS, OPTION_ANSWERS
from tests.support.processes.disks import again_in_a_namespace, mounts, small_disk

load_commands()
COMMANDS = [info.name or info.callback.__name__ for info in app.registered_commands if info.callback]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BISNES_ENV", raising=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"bisnesctl {command}" in capsys.readouterr().out.split("Example")[-1]


def test_help_documents_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(f"{code.value} {code.meaning}" in text for code in ExitCode)


def test_help_imports_nothing_slow() -> None:
    check = (
        "import sys; from bisnesctl.__main__ import main; main(['--help']); "
        "print([name for name in ('pydantic', 'psycopg2', 'redis', 'jinja2', 'psutil') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["status", "stop", "restart api", "health --probe", "why api-0"])
def test_a_frequent_command_does_not_import_what_only_others_need(command: str) -> None:
    check = (
        f"import sys; from bisnesctl.__main__ import main; main({command.split()}); "
        "print([name for name in ('structlog', 'requests', 'redis', 'jinja2', 'textual') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_command_imports_no_other_command() -> None:
    check = (
        "import sys; from bisnesctl.__main__ import load_commands; load_commands(['-v', 'bots', 'list', 'start']); "
        "print(sorted({name.split('.')[2] for name in sys.modules if name.startswith('bisnesctl.cli.')}))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['app', 'bots']"


def errors(base: type[BisnesError] = BisnesError) -> list[type[BisnesError]]:
    return [base, *(each for child in base.__subclasses__() for each in errors(child))]


@pytest.mark.parametrize("error", errors())
def test_every_error_class_has_a_default_message(error: type[BisnesError]) -> None:
    assert str(error()) == (error.__doc__ or "").split("\n\n")[0] != ""


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["start", "--multiprocess", "--legacy"], ExitCode.USAGE, "--multiprocess"),
        (["start", "--multiprocess", "api"], ExitCode.USAGE, "--only api"),
        (["stop", "nonsense"], ExitCode.USAGE, "There are: guard, postgres"),
        (["restart", "api"], ExitCode.NO_DEPLOYMENT, "BISNES_ENV"),
        (["logs"], ExitCode.NO_DEPLOYMENT, "BISNES_ENV"),
    ],
)
def test_errors_are_one_line_with_the_next_step(
    arguments: list[str], code: ExitCode, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    shown = capsys.readouterr().err
    assert says in shown
    assert "Traceback" not in shown


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("API_PORT", "many")
    for command in ("render", "start --multiprocess", "restart api"):
        assert main(command.split()) == ExitCode.CONFIG
        assert "API_PORT in the environment" in capsys.readouterr().err
    assert main(["health", "--probe"]) == 3
    said = capsys.readouterr()
    assert said.out.startswith("BISNES UNKNOWN - ")
    assert "API_PORT" in said.err


@pytest.mark.parametrize("command", ["status", "stop", "logs"])
def test_a_wrong_setting_is_reported_by_commands_that_work_without_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setenv("API_INSTANCES", "abc")
    assert main([command]) != ExitCode.CONFIG
    assert "API_INSTANCES in the environment" in capsys.readouterr().err


def test_a_home_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BISNES_HOME", str(tmp_path / "file" / "var"))
    assert main(["render"]) == ExitCode.CONFIG
    assert "BISNES_HOME" in capsys.readouterr().err


def test_verbose_shows_a_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("API_PORT", "many")
    main(["-v", "render"])
    assert "Traceback" in capsys.readouterr().err


def test_status_and_stop_before_the_first_start_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("status", "stop", "logs", "restart api"):
        assert main(command.split()) == ExitCode.NO_DEPLOYMENT
        assert str(tmp_path) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["start --multiprocess --sandbox", "start --legacy", "rollback", "restart api"])
def test_nothing_starts_or_is_made_in_a_wrong_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main(command.split()) == ExitCode.NO_DEPLOYMENT
    assert str(tmp_path) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_checkout_and_a_named_file_are_no_wrong_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not env_creation.is_checkout(tmp_path)
    assert env_creation.is_checkout(shipped_folder("conf").parent)
    monkeypatch.setenv("BISNES_ENV", str(tmp_path / "new" / "env"))
    env_creation.ensure_env_file(print)
    assert (tmp_path / "new" / "env").exists()


@pytest.mark.parametrize(
    ("word", "meant"),
    [("top", "bisnesctl monit"), ("strat", "bisnesctl start"),
     ("bots ls", "bisnesctl bots list"), ("version", "bisnesctl --version"), ("keys rm", "bisnesctl keys revoke")],
)  # fmt: skip
def test_an_unknown_command_suggests_the_one_that_is_meant(
    capsys: pytest.CaptureFixture[str], word: str, meant: str
) -> None:
    assert main(word.split()) == ExitCode.USAGE
    assert f"`{meant}`" in " ".join(capsys.readouterr().err.replace("│", " ").split())


#: The commands of PM2, but for those that publish, log in or manage its modules.
PM2_COMMANDS = [
    "attach", "cleardump", "deepUpdate", "delete", "desc", "describe", "dump", "ecosystem", "env", "flush",
    "gracefulReload", "id", "imonit", "info", "inspect", "jlist", "kill", "l", "list", "logs", "ls", "monit", "pid",
    "ping", "prettylist", "ps", "reload", "reloadLogs", "report", "reset", "restart", "resurrect", "save", "scale",
    "sendSignal", "serve", "show", "slist", "start", "startOrReload", "startOrRestart", "startup", "status", "stop",
    "sysinfos", "unstartup", "update", "updatePM2", "web",
]  # fmt: skip


@pytest.mark.parametrize("word", PM2_COMMANDS)
def test_a_command_of_pm2_exists_or_is_answered_with_one_of_ours(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    if main([word, "--help"]) == ExitCode.OK:
        return
    capsys.readouterr()
    assert main([word, "NAME"]) == ExitCode.USAGE
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    ours = re.findall(r"`bisnesctl ([^`]+)`", said)
    assert set(ours) - {"--help"}, said
    assert [line for line in ours if main([*line.split(), "--help"]) != ExitCode.OK] == []


def test_an_answer_to_a_command_of_pm2_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unstartup"]) == ExitCode.USAGE
    assert capsys.readouterr().err == (
        "error: there is no command unstartup: `bisnesctl startup --remove` ends the start at boot.\n"
    )


def test_every_answer_is_for_a_command_that_is_not_ours() -> None:
    assert set(ANSWERS) <= {word.lower() for word in PM2_COMMANDS}
    assert not set(ANSWERS) & {*COMMANDS, *ALIASES}


def stopped_deployment() -> None:
    settings = load_partly()
    make_folders(settings)
    record_start(settings.run_dir, Mode.MULTIPROCESS, False, ())
    record_stop(settings.run_dir)


@pytest.mark.parametrize("word", ALIASES)
def test_an_alias_runs_the_command_of_the_same_meaning(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    stopped_deployment()
    assert main([word]) == ExitCode.OK
    found = capsys.readouterr().out
    assert ('"condition": "stopped"' if "--json" in ALIASES[word] else "stopped on purpose") in found
    assert main([word, "--columns", "nonsense"]) == ExitCode.USAGE


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("logs --nostream", "prints the last lines and ends"), ("logs --raw", "as the program wrote them"),
        ("logs --out", "--err"), ("logs --timestamp", "their times already"), ("restart api --update-env", "settings"),
        ("start api -i 4", "bisnesctl scale api=4"), ("start app.js --name x", "fixed names"),
        ("logs --lins 5", "did you mean --lines?"), ("stop --al", "has no option --al; `bisnesctl stop --help`"),
        ("health --format x", "`bisnesctl health` has no option --format; "),
        ("bots add --type y", "invalid value for '--type': 'y' is not one of 'meta_direct', "),
        ("scale foo=1", "there is no program foo. These can be scaled: api, meta"),
        ("scale events=2", "events always has one instance. These can be scaled: api, meta"),
        ("why nonsense", "unknown name nonsense: name a process ("),
        ("logs --lines many", "a whole number is needed"), ("describe", "missing argument 'NAME'"),
        ("bots frobnicate", "there is no command frobnicate. `bisnesctl bots --help` lists all"),
    ],
)  # fmt: skip
def test_a_line_that_is_not_understood_gets_one_line(line: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert says in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_the_answers_to_options_name_lines_that_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    answers = {answer for each in OPTION_ANSWERS.values() for answer in each.values()}
    named = {line for answer in answers for line in re.findall(r"`bisnesctl ([^`]+)`", answer)}
    assert [line for line in named if main([*line.split(), "--help"]) != ExitCode.OK] == []


def test_a_bare_v_prints_the_version_as_others_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-v"]) == ExitCode.OK
    alone = capsys.readouterr().out
    main(["--version"])
    assert alone == capsys.readouterr().out != ""


@pytest.mark.parametrize("command", ["status", "help", "help operate", "--help", "doctor", "why --json", "ls"])
def test_a_reader_that_has_ended_ends_the_command_quietly(tmp_path: Path, command: str) -> None:
    stopped_deployment()
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "BISNES_ENV": str(tmp_path / ".env"), "BISNES_HOME": str(tmp_path / "var")}
    done = subprocess.run([sys.executable, "-m", "bisnesctl", *command.split()], stdout=writing,
                          stderr=subprocess.PIPE, text=True, env=environment)  # fmt: skip
    os.close(writing)
    assert (done.returncode, "rror" in done.stderr) == (ExitCode.PIPE_CLOSED, False), done.stderr


@pytest.mark.parametrize("word", ["observe", "frobnicate", "x"])
def test_an_unknown_command_that_resembles_none_suggests_none(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert main([word]) == ExitCode.USAGE
    assert "Did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("logs api", ["api", "api-0"]),
        ("logs bisnesgpt-", ["bisnesgpt-api", "bisnesgpt-meta", "bisnesgpt-wwebjs"]),
        ("help from", ["from-pm2"]),
    ],
)
def test_the_shell_completes_names_and_topics(tmp_path: Path, typed: str, names: list[str]) -> None:
    (tmp_path / ".env").write_text("API_INSTANCES=1\n")
    words = {"_BISNESCTL_COMPLETE": "complete_bash", "COMP_WORDS": f"bisnesctl {typed}", "COMP_CWORD": "2"}
    tool = Path(sys.executable).with_name("bisnesctl")
    done = subprocess.run([tool], env={**os.environ, **words}, capture_output=True, text=True, check=False)
    assert done.stdout.split() == names


def test_init_writes_a_private_file_with_secrets_and_never_twice(tmp_path: Path) -> None:
    assert main(["init"]) == 0
    path = tmp_path / ".env"
    first = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    lines = dict(line.split("=", 1) for line in first.splitlines() if "=" in line and not line.startswith("#"))
    assert len(lines["ENCRYPTION_KEY"]) == 64
    assert lines["OPERATOR_KEY"].startswith("bk_")
    assert main(["init"]) == ExitCode.CONFLICT
    assert path.read_text() == first


def test_render_writes_the_configuration_and_nothing_else(tmp_path: Path) -> None:
    assert main(["render", "--out", str(tmp_path / "look")]) == 0
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()] == [
        Path("look/supervisord.conf")
    ]


def test_no_command_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert "bisnesctl status" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (-5, "0s"), (0.4, "0s"), (61, "1m 1s"), (3600, "1h 0m"), (90_061, "1d 1h")]
)
def test_durations_have_two_units(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_sizes_are_in_megabytes_or_gigabytes() -> None:
    assert [size(None), size(5 * 2**20), size(3 * 2**29)] == ["-", "5 MB", "1.5 GB"]


def test_every_command_is_registered() -> None:
    assert isinstance(app, typer.Typer)
    assert {"init", "render", "start", "stop", "restart", "rollback", "status", "health", "logs"} <= set(COMMANDS)


def test_again_in_a_namespace_unless_root() -> None:
    again_in_a_namespace(__file__, "disk")


@mounts
@pytest.mark.parametrize(
    ("how", "words"), [("full", "the disk is full (0 MB free of 4 MB)"), ("read-only", "read-only")]
)
def test_a_disk_that_cannot_be_written_is_a_conflict_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str, words: str
) -> None:
    with small_disk(tmp_path / "disk", megabytes=4) as small:
        monkeypatch.setenv("BISNES_HOME", str(small.folder / "var"))
        assert main(["render"]) == ExitCode.OK
        if how == "full":
            small.fill()
        else:
            small.read_only()
        capsys.readouterr()
        assert main(["render"]) == ExitCode.CONFLICT
        said = capsys.readouterr().err
    assert words in said
    assert "cannot be written" in said
    assert "Errno" not in said
    assert "somebody else" not in said
    assert len(said.strip().splitlines()) == 1


@mounts
def test_a_folder_of_another_user_is_named_with_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BISNES_HOME", str(tmp_path / "var"))
    assert main(["render"]) == ExitCode.OK
    os.chown(tmp_path / "var" / "run", 65534, 65534)
    assert main(["render"]) == ExitCode.CONFLICT
    assert "belongs to " in capsys.readouterr().err


@mounts
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_the_lock_works_on_a_disk_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    with small_disk(tmp_path / "disk", megabytes=4) as small:
        monkeypatch.setenv("BISNES_HOME", str(small.folder / "var"))
        deployment = open_deployment()
        with deployment.lock("start"):
            pass
        if how == "full":
            small.fill()
        else:
            small.read_only()
        with deployment.lock("stop"), pytest.raises(Conflict), deployment.lock("start"):
            pass


@pytest.mark.parametrize("command", ["--help", "render --nginx"])
def test_output_that_cannot_be_written_is_an_error_and_no_traceback(tmp_path: Path, command: str) -> None:
    environment = {**os.environ, "BISNES_ENV": str(tmp_path / ".env"), "BISNES_HOME": str(tmp_path / "var")}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bisnesctl", *command.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        both = subprocess.run(
            [sys.executable, "-m", "bisnesctl", *command.split()], stdout=full, stderr=full, env=environment
        )
    assert done.returncode == both.returncode == ExitCode.CONFLICT
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
