"""Rows become instances."""

from pathlib import Path

import pytest

from bisnesctl.errors import ConfigError
from bisnesctl.processes.embedded_servers import max_connections
from bisnesctl.processes.extras import find_extras, in_start_order, why_extra
from bisnesctl.processes.render import own_command
from bisnesctl.processes.supervisor import Process
from bisnesctl.processes.topology import PROGRAMS, Instance, Mode, expand, memory_limit, program
from tests.support.processes.servers import settings_in


def instances(folder: Path, **variables: str) -> list[Instance]:
    return expand(settings_in(folder, **variables))


def names(found: list[Instance]) -> list[str]:
    return [each.name for each in found]


def test_embedded_default_has_everything_but_the_sandbox(tmp_path: Path) -> None:
    assert names(instances(tmp_path)) == [
        *("guard", "postgres", "redis", "api-0", "api-1", "meta", "meta-worker-1", "meta-worker-2"),
        *("events", "wwebjs", "legacy", "alerts"),
    ]


def test_external_servers_are_not_started(tmp_path: Path) -> None:
    found = names(instances(tmp_path, DATABASE_URL="postgresql://h/d", REDIS_HOST="h"))
    assert found[:2] == ["guard", "api-0"]


def test_settings_choose_the_programs_and_their_instances(tmp_path: Path) -> None:
    found = instances(tmp_path, API_INSTANCES="1", META_INSTANCES="3", SANDBOX="true", SANDBOX_PORT="4010")
    assert names(found)[3:8] == ["sandbox", "api-0", "meta", "meta-worker-1", "meta-worker-2"]
    assert next(each for each in found if each.name == "sandbox").url == "http://127.0.0.1:4010"
    assert not [name for name in names(instances(tmp_path, ENABLE_META="false")) if "meta" in name]


def test_instances_of_a_shared_socket_are_one_group_and_workers_are_groups_of_their_own(tmp_path: Path) -> None:
    groups = {each.name: each.full_name for each in instances(tmp_path)}
    assert groups["api-1"] == "api:api-1"
    assert groups["meta-worker-2"] == "meta-worker-2:meta-worker-2"


def test_the_environment_names_the_instance_but_no_secret(tmp_path: Path) -> None:
    found = instances(tmp_path, ENCRYPTION_KEY="x" * 32, SANDBOX="true")
    worker = next(each for each in found if each.name == "meta-worker-2")
    assert worker.environment == {
        "BISNES_ENV": str(tmp_path / ".env"),
        "BISNES_PROCESS": "meta",
        "BISNES_INSTANCE": "meta-worker-2",
        "SANDBOX": "true",
    }


def test_postgres_allows_every_pool_to_be_full(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, API_INSTANCES="4", META_INSTANCES="8")
    assert max_connections(settings) > 4 * 20 + 9 * 20 + 20


def test_the_limits_of_the_old_system_are_kept() -> None:
    limits = {row.name: (row.min_uptime, row.max_restarts, row.restart_delay, row.memory) for row in PROGRAMS}
    assert limits["api"] == (10, 10, 2, 2048)
    assert limits["wwebjs"][:3] == (30, 10, 5)
    assert limits["meta"][:3] == limits["meta-worker"][:3] == (10, 20, 1)
    assert (program("legacy").max_restarts, program("legacy").kill_timeout) == (0, 15)
    assert (program("wwebjs").kill_timeout, program("wwebjs-session").kill_timeout) == (10, 15)


def test_memory_limits_are_in_the_rows_or_in_the_settings(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, SESSION_MEMORY_MB="200")
    assert memory_limit(program("meta"), settings) == 512 * 2**20
    assert memory_limit(program("postgres"), settings) is None
    # A session renews its browser by itself before the guard has to end it.
    assert memory_limit(program("wwebjs-session"), settings) == 300 * 2**20


def test_the_managers_of_sessions_stop_before_the_sessions() -> None:
    assert program("wwebjs").priority > program("wwebjs-session").priority < program("legacy").priority


def test_expansion_leaves_sessions_out(tmp_path: Path) -> None:
    assert not [each for each in instances(tmp_path) if each.program.dynamic]


def test_program_names_are_unique() -> None:
    assert len({row.name for row in PROGRAMS}) == len(PROGRAMS)


def test_each_mode_starts_without_some_programs() -> None:
    assert {row.name for row in PROGRAMS if Mode.LEGACY in row.optional_in} == {"guard", "redis", "alerts", "dashboard"}
    assert {row.name for row in PROGRAMS if Mode.MULTIPROCESS in row.optional_in} == {"alerts", "dashboard"}


def test_extra_instances_are_those_that_supervisord_has_and_the_settings_do_not(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, API_INSTANCES="1", ENABLE_META="false")
    names_there = ("api-0", "api-1", "meta", "meta-worker-2", "legacy", "somebody-elses", "api-x")
    there = {name: Process(name, name, "RUNNING", 7, "", 0) for name in names_there}
    extras = {each.name: each for each in find_extras(expand(settings), there, settings)}
    assert set(extras) == {"api-1", "meta", "meta-worker-2"}
    assert extras["api-1"].full_name == "api:api-1"
    assert "API_INSTANCES is 1: `bisnesctl restart api` stops it" in why_extra(extras["api-1"], settings)
    assert "ENABLE_META is off: `bisnesctl stop meta-worker-2`" in why_extra(extras["meta-worker-2"], settings)
    assert names(in_start_order([*expand(settings), extras["api-1"]]))[3:5] == ["api-0", "api-1"]


def test_the_former_server_runs_in_place_of_the_legacy_process(tmp_path):
    command = "sh -c 'cd /srv/old && exec node {server}.js'"
    settings = settings_in(tmp_path, LEGACY_COMMAND=command)
    found = {each.name: each for each in expand(settings)}["legacy"]
    assert own_command(found.program, settings, {})[-1] == "cd /srv/old && exec node {server}.js"
    assert found.program.health_path == "/health"
    assert (found.program.shared_socket, found.program.hang_check) == (False, False)
    assert found.environment["PORT"] == "8443"
    elsewhere = settings_in(tmp_path, LEGACY_COMMAND=command, LEGACY_HEALTH_URL="http://127.0.0.1:9000/up")
    assert {each.name: each for each in expand(elsewhere)}["legacy"].program.health_path == "http://127.0.0.1:9000/up"


def test_a_command_line_with_an_open_quote_is_refused_with_its_name(tmp_path):
    with pytest.raises(ConfigError, match="LEGACY_COMMAND"):
        settings_in(tmp_path, LEGACY_COMMAND="sh -c 'cd /srv").copy_with()
