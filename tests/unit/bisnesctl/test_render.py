"""The rendered configuration, as supervisord's own parser reads it."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from supervisor.events import ProcessStateEvent
from supervisor.options import ServerOptions, UnhosedConfigParser

from bisnesctl.errors import ConfigError
from bisnesctl.processes.embedded_servers import command_variables
from bisnesctl.processes.render import File, command_line, pairs, render, render_session, value
from bisnesctl.processes.topology import expand, instance_of, program
from tests.support.processes.servers import settings_in

#: Characters of paths, and characters that are syntax in supervisord's files.
AWKWARD = st.text(
    st.sampled_from("ab /.-_%;#'\"\\(),=d\t\x0b\x1c\x1f\x85\xa0\u2003\u2028\u3000"), min_size=1, max_size=20
)


def read_by_supervisord(directory: Path, **variables: str) -> dict[str, Any]:
    """Render, have supervisord parse it, and return its processes by name and its groups under `groups`."""
    settings = settings_in(directory, **variables)
    for folder in (settings.run_dir, settings.log_dir):
        folder.mkdir(parents=True, exist_ok=True)
    [file] = render(settings, expand(settings), command_variables(settings) | {"server_user": ""})
    options = ServerOptions()
    options.configfile = str(file.write(settings.run_dir))
    options.process_config(do_usage=False)
    groups = options.process_group_configs
    return {each.name: each for group in groups for each in group.process_configs} | {"groups": groups}


def test_supervisord_reads_every_instance(tmp_path: Path) -> None:
    found = read_by_supervisord(tmp_path, SANDBOX="true")
    assert set(found) - {"groups"} == {
        *("guard", "postgres", "redis", "sandbox", "api-0", "api-1", "meta", "meta-worker-1", "meta-worker-2"),
        *("events", "legacy", "wwebjs", "alerts"),
    }
    assert {"api", "guard", "meta"} <= {group.name for group in found["groups"]}


def test_every_process_ends_with_supervisord_and_only_the_guard_starts_with_it(tmp_path: Path) -> None:
    found = read_by_supervisord(tmp_path)
    found.pop("groups")
    for process in found.values():
        assert shlex.split(process.command)[1] == "--pdeathsig"
        assert process.killasgroup
    assert [name for name, process in found.items() if process.autostart] == ["guard"]


def test_supervisord_restarts_only_the_guard(tmp_path: Path) -> None:
    found = read_by_supervisord(tmp_path)
    found.pop("groups")
    assert [name for name, process in found.items() if process.autorestart] == ["guard"]
    others = [process for name, process in found.items() if name != "guard"]
    assert {(process.startsecs, process.startretries) for process in others} == {(0, 0)}


def test_the_guard_receives_every_state_and_its_output_goes_only_to_supervisord(tmp_path: Path) -> None:
    found = read_by_supervisord(tmp_path)
    [group] = [each for each in found["groups"] if each.name == "guard"]
    assert ProcessStateEvent in group.pool_events
    assert found["guard"].stdout_logfile is None
    assert found["guard"].stderr_logfile == str(tmp_path / "var" / "log" / "guard.err.log")


def test_programs_with_children_have_a_shim_that_is_done_before_the_timeout_of_supervisord(tmp_path: Path) -> None:
    found = read_by_supervisord(tmp_path)
    shimmed = {name for name, each in found.items() if name != "groups" and "/shim.py" in each.command}
    assert shimmed == {"legacy"}
    command = shlex.split(found["legacy"].command)
    timeout = command[next(number for number, word in enumerate(command) if word.endswith("/shim.py")) + 1]
    assert (timeout, found["legacy"].stopwaitsecs > 15) == ("15", True)


def test_sessions_have_files_of_their_own(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    session = instance_of(program("wwebjs-session"), "s", settings, {"company": "01 'x", "phone": "2"})
    main, own = render(settings, [*expand(settings), session], command_variables(settings))
    assert "[program:s]" not in main.content
    assert own.name == "sessions/s.conf"
    assert own.content.startswith('; ["01 \'x", 2]\n')
    command = next(line for line in own.content.splitlines() if line.startswith("command"))
    assert shlex.split(read_option(command.partition(" = ")[2]))[-2:] == ["01 'x", "2"]


def test_instances_of_a_shared_socket_have_their_own_names(tmp_path: Path) -> None:
    found = read_by_supervisord(tmp_path, API_PORT="4000")
    assert found["api-1"].environment["BISNES_INSTANCE"] == "api-1"
    assert found["api-1"].stderr_logfile == str(tmp_path / "var" / "log" / "api-1.err.log")
    [group] = [each for each in found["groups"] if each.name == "api"]
    assert group.socket_config.url == "tcp://127.0.0.1:4000"


@pytest.mark.parametrize("name", ["plain", "with space", "100%", "%(here", "it's", "a;b#c"])
def test_paths_are_rendered_unchanged(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    process = read_by_supervisord(folder)["meta"]
    assert process.environment["BISNES_ENV"] == str(folder / ".env")
    assert process.stdout_logfile == str(folder / "var" / "log" / "meta.log")
    assert process.directory == str(folder / "var")


def read_option(text: str) -> str:
    """How supervisord reads `key = text`."""
    parser = UnhosedConfigParser()
    parser.read_string(f"[section]\nkey = {text}\n")
    return str(parser.saneget("section", "key"))


@given(st.lists(AWKWARD, min_size=1, max_size=4))
def test_a_command_line_keeps_its_words_apart(command: list[str]) -> None:
    assert shlex.split(read_option(command_line(["/bin/x", *command]))) == ["/bin/x", *command]


@given(AWKWARD)
def test_a_value_is_read_as_it_was_or_refused(text: str) -> None:
    try:
        written = value(text)
    except ConfigError:
        return
    assert read_option(written) == text


@pytest.mark.parametrize("text", ["a\nb", "a ;b", "a #b", " a", "a\xa0;b", "a\u3000#b"])
def test_values_that_supervisord_cannot_express_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        value(text)


def test_a_quote_in_the_environment_is_refused() -> None:
    with pytest.raises(ConfigError, match="BISNES_ENV"):
        pairs({"BISNES_ENV": '/a"b'})


@pytest.mark.parametrize(
    ("host", "bound", "reached"),
    [("::", "[::]:4002", "http://[::1]:4002"), ("::1", "[::1]:4002", "http://[::1]:4002"),
     ("[::1]", "[::1]:4002", "http://[::1]:4002"), ("0.0.0.0", "0.0.0.0:4002", "http://127.0.0.1:4002"),
     ("localhost", "localhost:4002", "http://localhost:4002")],
)  # fmt: skip
def test_programs_listen_where_the_settings_say(tmp_path: Path, host: str, bound: str, reached: str) -> None:
    settings = settings_in(tmp_path, META_HOST=host, META_PORT="4002")
    [file] = render(settings, expand(settings), command_variables(settings))
    assert f"[fcgi-program:meta]\nsocket = tcp://{bound}\n" in file.content
    assert next(each.url for each in expand(settings) if each.name == "meta") == reached


@given(company=AWKWARD)
def test_the_session_of_any_company_is_rendered_as_it_is(tmp_path_factory: Any, company: str) -> None:
    settings = settings_in(tmp_path_factory.mktemp("home"))
    variables = {"company": company, "phone": "1"}
    file = render_session(settings, instance_of(program("wwebjs-session"), "wwebjs-session-x-1", settings, variables))
    parser = UnhosedConfigParser()
    parser.read_string(file.content)
    command = parser.saneget("program:wwebjs-session-x-1", "command")
    assert shlex.split(command)[-2:] == [company, "1"]


def test_no_secret_is_rendered(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, ENCRYPTION_KEY="k" * 32, OPERATOR_KEY="bk_secret", META_APP_SECRET="s3cret")
    [file] = render(settings, expand(settings), command_variables(settings))
    assert not [secret for secret in ("k" * 32, "bk_secret", "s3cret") if secret in file.content]


def test_files_are_private_and_replace_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("old")
    path = File("a.conf", "new").write(tmp_path)
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
