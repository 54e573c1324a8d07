"""The numbers that `bisnesctl scale` set, beside those of the settings."""

from pathlib import Path

import pytest

from bisnesctl.errors import UsageError
from bisnesctl.lifecycle.scale import wanted_numbers
from bisnesctl.processes import scales
from bisnesctl.processes.embedded_servers import max_connections
from bisnesctl.settings import Settings, load
from tests.support.processes.servers import settings_in


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = settings_in(tmp_path, API_INSTANCES="2", META_INSTANCES="3")
    found.run_dir.mkdir(parents=True)
    return found


def test_a_number_overrides_the_settings_until_it_is_forgotten(settings: Settings) -> None:
    scales.write(settings.run_dir, {"api": 5})
    assert (scales.apply(settings).api_instances, scales.apply(settings).meta_instances) == (5, 3)
    api, worker = scales.find(settings)
    assert (api.wanted, api.origin, api.configured, worker.wanted, worker.drift) == (5, "scale", 2, 3, "")
    assert "`bisnesctl scale api=default` returns to them" in api.drift
    scales.write(settings.run_dir, {})
    assert scales.apply(settings).api_instances == 2


def test_the_environment_is_stronger(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    scales.write(settings.run_dir, {"api": 5})
    monkeypatch.setenv("API_INSTANCES", "4")
    found = load(settings.env_file)
    assert scales.apply(found).api_instances == 4
    assert scales.find(found)[0].origin == "the environment"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"api": "x"}', '{"api": -1}', '{"api": null}', '{"meta": 3}'])
def test_a_damaged_file_sets_nothing(settings: Settings, text: str) -> None:
    (settings.run_dir / scales.FILE).write_text(text)
    assert scales.apply(settings).api_instances == 2


def test_words_are_numbers_of_programs(settings: Settings) -> None:
    assert wanted_numbers(settings, ["api=3", "meta=default"]) == {"api": 3, "meta-worker": None}
    assert wanted_numbers(settings, ["meta-worker=+2", "bisnesgpt-api=-1"]) == {"meta-worker": 5, "api": 1}
    assert wanted_numbers(settings, ["api", "4"]) == {"api": 4}
    assert wanted_numbers(settings, ["api", "+1"]) == {"api": 3}


@pytest.mark.parametrize("word", ["api=0", "api=65", "api=-2", "api=", "api=x", "events=2", "nobody=1", "api"])
def test_other_words_are_refused(settings: Settings, word: str) -> None:
    with pytest.raises(UsageError):
        wanted_numbers(settings, [word])


def test_scaling_leaves_the_command_of_the_embedded_postgresql_as_it_is(settings: Settings) -> None:
    scales.write(settings.run_dir, {"api": 4, "meta-worker": 6})
    assert max_connections(scales.apply(settings)) == max_connections(settings)
