"""Ports: two programs with the same are refused before anything starts."""

from pathlib import Path

import pytest

from bisnesctl.errors import ConfigError
from bisnesctl.lifecycle import preflight
from bisnesctl.processes.selection import in_mode
from bisnesctl.processes.topology import Mode, expand
from tests.support.processes.servers import settings_in


def check(folder: Path, variables: dict[str, str], mode: Mode = Mode.MULTIPROCESS) -> None:
    settings = settings_in(folder, **variables)
    preflight.check_clashes(settings, in_mode(expand(settings), mode))


@pytest.mark.parametrize(
    ("one", "other", "more"),
    [
        ("API_PORT", "META_PORT", {}),
        ("API_PORT", "WWEBJS_PORT", {}),
        ("API_PORT", "PORT", {}),
        ("META_PORT", "WWEBJS_PORT", {}),
        ("META_PORT", "SANDBOX_PORT", {"SANDBOX": "true"}),
        ("API_PORT", "META_PORT", {"API_HOST": "0.0.0.0", "META_HOST": "127.0.0.1"}),
        ("API_PORT", "META_PORT", {"API_HOST": "localhost"}),
        ("API_PORT", "META_PORT", {"API_HOST": "::"}),
    ],
)
def test_two_programs_with_one_port_are_refused(tmp_path: Path, one: str, other: str, more: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        check(tmp_path, {one: "4000", other: "4000", **more})
    assert one in str(caught.value)
    assert other in str(caught.value)
    assert str(tmp_path / ".env") in str(caught.value)


@pytest.mark.parametrize(
    "variables",
    [
        {"API_PORT": "4000", "SANDBOX_PORT": "4000"},
        {"API_PORT": "4000", "META_PORT": "4000", "ENABLE_META": "false"},
        {"API_PORT": "4000", "META_PORT": "4000", "API_HOST": "10.0.0.1", "META_HOST": "10.0.0.2"},
        {},
    ],
)
def test_programs_that_do_not_run_or_listen_elsewhere_may_have_the_same_port(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    check(tmp_path, variables)


def test_a_rollback_is_not_stopped_by_the_ports_of_other_programs(tmp_path: Path) -> None:
    check(tmp_path, {"API_PORT": "4000", "META_PORT": "4000"}, Mode.LEGACY)
