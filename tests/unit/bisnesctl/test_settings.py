"""The settings: what is read from where, what is refused, and that the example documents all of it."""

from pathlib import Path

import pytest
from dotenv import dotenv_values

from bisnesctl.errors import ConfigError
from bisnesctl.paths import shipped_folder
from bisnesctl.settings import Settings, load


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("BISNES_ENV", raising=False)


def env(folder: Path, text: str) -> Path:
    path = folder / ".env"
    path.write_text(text)
    return path


def test_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = env(tmp_path, "API_PORT=4000\nMETA_PORT=4002\n")
    monkeypatch.setenv("API_PORT", "5000")
    settings = load(path)
    assert (settings.api_port, settings.meta_port) == (5000, 4002)


def test_bisnes_env_names_the_file_and_home_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BISNES_ENV", str(env(tmp_path, "PORT=9000\n")))
    settings = load()
    assert settings.port == 9000
    assert settings.home == tmp_path / "var"
    assert settings.env_file == tmp_path / ".env"


def test_a_missing_file_means_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path / "none").api_port == 3000


def test_nothing_configured_means_embedded(tmp_path: Path) -> None:
    settings = load(env(tmp_path, "DATABASE_URL=\nREDIS_URL=\n"))
    assert settings.embedded_postgres
    assert settings.embedded_redis
    assert settings.database_dsn.startswith("postgresql:///bisnes?host=")
    assert settings.redis_dsn.startswith("unix:///")


def test_redis_may_be_given_as_host_and_password(tmp_path: Path) -> None:
    settings = load(env(tmp_path, "REDIS_HOST=cache\nREDIS_PASSWORD=a:b/c\n"))
    assert not settings.embedded_redis
    assert settings.redis_dsn == "redis://:a%3Ab%2Fc@cache:6379/0"


def test_an_error_names_the_file_the_key_and_what_is_allowed(tmp_path: Path) -> None:
    path = env(tmp_path, "LOG_LEVEL=loud\nENCRYPTION_KEY=short\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    text = str(caught.value)
    assert f"LOG_LEVEL in {path}" in text
    assert "'debug', 'info', 'warning' or 'error'" in text
    assert "64 hex digits or 32 characters" in text


def test_an_error_names_the_environment_when_it_came_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_PORT", "70000")
    with pytest.raises(ConfigError, match="API_PORT in the environment"):
        load(tmp_path / ".env")


def test_secrets_mask_themselves(tmp_path: Path) -> None:
    path = env(tmp_path, "DATABASE_URL=postgresql://u:hush@h/d\nOPERATOR_KEY=bk_hush\nREDIS_PASSWORD=hush\n")
    assert "hush" not in repr(load(path))


def test_the_sandbox_replaces_the_graph_url(tmp_path: Path) -> None:
    assert load(env(tmp_path, "SANDBOX=true\nSANDBOX_PORT=4010\n")).graph_url == "http://127.0.0.1:4010"
    assert load(env(tmp_path, "META_GRAPH_URL=http://h:1/\n")).graph_url == "http://h:1"


def test_sockets_stay_short_below_a_deep_home(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    settings = load(env(tmp_path, f"BISNES_HOME={deep}\n"))
    assert len(settings.redis_dsn) < 100


def test_the_example_documents_every_setting_with_its_default() -> None:
    example = dotenv_values(shipped_folder("conf") / "env.example")
    assert set(example) == {name.upper() for name in Settings.model_fields}
    given = {key.lower(): value for key, value in example.items() if value}
    defaults = Settings(_env_file=None)
    assert defaults == Settings.model_validate(given)
