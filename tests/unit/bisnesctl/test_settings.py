"""The settings: what is read from where, what is refused, and that the example documents all of it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl import env_file
from bisnesctl.errors import ConfigError
from bisnesctl.paths import shipped_folder
from bisnesctl.settings import Settings, load, load_partly
from services.runtime.process import Process


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


# --- Values of `.env` ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("p#1", "p#1"),
        ("'p #1'", "p #1"),
        ("'a${HOME}b'", "a${HOME}b"),
        ("a$HOME", "a$HOME"),
        ("'C:\\'", "C:\\"),
        ("'a\\'", "a\\"),
        ("it's", "it's"),
        ('"it\'s"', "it's"),
        ('"a\\"b"', 'a"b'),
        ('"a\\\\"', "a\\"),
        ("  spaced out  ", "spaced out"),
        ("'  kept  '", "  kept  "),
        ("a=b=c", "a=b=c"),
        ("%#@!", "%#@!"),
        ("'x' # a comment", "x"),
        ("ключ🔑", "ключ🔑"),
    ],
)
def test_a_value_stands_for_itself(tmp_path: Path, written: str, meant: str) -> None:
    assert load(env(tmp_path, f"REDIS_PASSWORD={written}\n")).redis_password.get_secret_value() == meant


@pytest.mark.parametrize(
    "written",
    ["abc${HOME}def", '"abc${HOME}"', "p #1", "#1", "'open", '"open\\"', "'a' b", "'it\\'s'", '"a\\nb"', '"C:\\"'],
)
def test_a_value_that_could_mean_something_else_is_refused_with_the_way_to_quote_it(
    tmp_path: Path, written: str
) -> None:
    with pytest.raises(ConfigError, match=r"META_APP_SECRET in .*, line 2: .*quotes"):
        load(env(tmp_path, f"API_PORT=4000\nMETA_APP_SECRET={written}\n"))


SINGLE = st.text(st.characters(exclude_characters="'\n\r\0", exclude_categories=["Cs"]))


@given(SINGLE)
def test_single_quotes_keep_any_value(text: str) -> None:
    [line] = env_file.parse(f"NAME='{text}'\n", lambda _: True, lambda _: True).lines
    assert (line.value, line.problem) == (text, "")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_file_is_never_altered_silently(text: str) -> None:
    written = text.split("\n")[0].removesuffix("\r")
    [line] = env_file.parse(f"NAME={text}", lambda _: True, lambda _: True).lines[:1]
    as_it_is = {written.strip(), written.strip()[1:-1]}
    unescaped = written.strip()[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    comment = written.strip().startswith("# ") or written.strip()[:1] in ("'", '"')
    assert line.problem or line.value in {*as_it_is, unescaped} or comment


def test_a_comment_after_a_number_is_a_comment(tmp_path: Path) -> None:
    settings = load(env(tmp_path, "export API_PORT=4000 # the API\nREDIS_URL= # none\n\n  # more\r\nSANDBOX=true\r\n"))
    assert (settings.api_port, settings.sandbox, settings.redis_url) == (4000, True, None)


def test_other_programs_may_have_lines_of_any_form(tmp_path: Path) -> None:
    text = "APP_PORT=1\nSECRET=a${X}b #\nJSON='{\n \"API_PORT\": 1\n}'\nOPEN='x\nAPI_PORT=4000\nNOTE=it's\n"
    settings = load(env(tmp_path, text))
    assert (settings.api_port, settings.notes) == (4000, ())


def test_a_line_that_is_no_assignment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2: it is not NAME=value"):
        load(env(tmp_path, "API_PORT=1\nAPI_HOST: 0.0.0.0\n"))


def test_the_last_of_two_lines_counts_and_a_lost_value_is_reported(tmp_path: Path) -> None:
    settings = load(env(tmp_path, "API_PORT=3000\nAPI_PORT=4000\nMETA_PORT=1\nMETA_PORT=2\n"))
    assert (settings.api_port, settings.meta_port) == (4000, 2)
    assert settings.notes == (f"META_PORT is set twice in {tmp_path / '.env'}: line 4 counts, line 3 does not",)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("API_INSTANCE", "API_INSTANCES"), ("LOGLEVEL", "LOG_LEVEL"), ("LOG_LEVLE", "LOG_LEVEL"),
        ("API_PROT", "API_PORT"),
        ("DATABASE_URI", "DATABASE_URL"), ("REDIS_PASS", "REDIS_PASSWORD"), ("ENCRIPTION_KEY", "ENCRYPTION_KEY"),
        ("meta_instance", "META_INSTANCES"), ("BISNES_HOM", "BISNES_HOME"), ("PUBLICURL", "PUBLIC_URL"),
        ("WEBHOOK_TIMEOUT_S", "WEBHOOK_TIMEOUT_MS"), ("BISNES_APIKEY", "BISNES_API_KEY"),
    ],
)  # fmt: skip
def test_a_misspelt_name_is_reported_with_the_setting_that_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    [note] = load(env(tmp_path, f"{name}=1\n")).notes
    assert note == f"{name} in {tmp_path / '.env'}, line 1, is not a setting: did you mean {meant}?"
    monkeypatch.setenv(name, "1")
    assert f"{name} in the environment is not a setting: did you mean {meant}?" in load(env(tmp_path, "")).notes


@pytest.mark.parametrize(
    "name",
    ["APP_PORT", "WEB_PORT", "PATH", "HOME", "NODE_ENV", "PGPASSWORD", "META_PIXEL_ID", "REDIS_TLS", "S3_BUCKET",
     "DATABASE_NAME", "DB_URL", "LOG_FORMAT", "CHROME_BIN", "SMTP_PORT", "API_TOKEN", "WA_NAME", "POSTGRES_DB"],
)  # fmt: skip
def test_names_of_other_programs_are_not_suspected(tmp_path: Path, name: str) -> None:
    assert load(env(tmp_path, f"{name}=1\n")).notes == ()


# --- Values that are refused ---------------------------------------------------------------------------------------


def test_a_refused_value_disables_only_what_needs_it(tmp_path: Path) -> None:
    settings = load_partly(env(tmp_path, "API_INSTANCES=abc\nAPI_PORT=4000\nREDIS_PASSWORD='x\n"))
    assert settings.api_port == 4000
    assert set(settings.problems) == {"api_instances", "redis_password"}
    with pytest.raises(ConfigError, match=r"API_INSTANCES in .*whole number"):
        _ = settings.api_instances
    with pytest.raises(ConfigError, match=r"REDIS_PASSWORD in .*line 3"):
        _ = settings.copy_with(sandbox=True).redis_password


def test_defaults_replace_refused_values_but_those_that_matter(tmp_path: Path) -> None:
    settings = load_partly(env(tmp_path, "API_INSTANCES=abc\nPORT=x\n")).with_defaults(frozenset({"port"}))
    assert settings.api_instances == 2
    with pytest.raises(ConfigError, match="PORT"):
        _ = settings.port


def test_a_process_that_is_started_again_does_without_a_wrong_value_that_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in ("logging_setup.configure", "levels.watch"):  # they would outlast the test
        monkeypatch.setattr(f"services.runtime.process.{each}", lambda *_: None)
    monkeypatch.setenv("BISNES_ENV", str(env(tmp_path, "META_WINDOW=abc\nMETA_PORT=4000\n")))
    settings = Process.from_environment("meta").settings
    assert (settings.meta_window, settings.meta_port) == (256, 4000)
    env(tmp_path, "META_GRAPH_URL=example.com\n")
    with pytest.raises(ConfigError, match="META_GRAPH_URL"):
        Process.from_environment("meta")


def test_the_origin_of_a_value_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = env(tmp_path, "API_PORT=4000\nMETA_PORT=4002\n")
    monkeypatch.setenv("API_PORT", "5000")
    settings = load(path)
    assert settings.where("api_port") == "API_PORT in the environment"
    assert settings.where("meta_port") == f"META_PORT in {path}"
    assert settings.where("redis_url") == f"REDIS_URL in {path}"


@pytest.mark.parametrize("value", ["inf", "nan", "1e400"])
def test_numbers_are_finite(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match="LEASE_SECONDS"):
        load(env(tmp_path, f"LEASE_SECONDS={value}\n"))


@pytest.mark.parametrize("name", ["API_HOST", "META_HOST", "REDIS_HOST"])
@pytest.mark.parametrize(
    "host", ["fe80::1%eth0", "[::1]:3000", "10.0.0.1:3000", "host:1", "a b", "1.2.3", "http://x", "::g"]
)
def test_a_host_is_an_address_or_a_name(tmp_path: Path, name: str, host: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} in "):
        load(env(tmp_path, f"{name}={host}\n"))


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ("", ()),
        ("--no-zygote", ("--no-zygote",)),
        ("--window-size=800,600", ("--window-size=800,600",)),
        ("--window-size=800,600, --lang=de,--mute-audio,", ("--window-size=800,600", "--lang=de", "--mute-audio")),
        ("--host-rules=MAP a b,EXCLUDE c,--lang=de", ("--host-rules=MAP a b,EXCLUDE c", "--lang=de")),
    ],
)
def test_arguments_of_chromium_may_have_commas(tmp_path: Path, written: str, arguments: tuple[str, ...]) -> None:
    assert load(env(tmp_path, f"CHROME_ARGS={written}\n")).chrome_arguments == arguments


def test_urls_have_brackets_around_ipv6(tmp_path: Path) -> None:
    settings = load(env(tmp_path, "REDIS_HOST=::1\nSANDBOX=true\nMETA_HOST=[::]\n"))
    assert settings.redis_dsn == "redis://[::1]:6379/0"
    assert settings.webhook_base == "http://[::1]:3002"


def test_the_example_documents_every_setting_with_its_default() -> None:
    text = (shipped_folder("conf") / "env.example").read_text()
    example = {line.name: line.value for line in env_file.parse(text, lambda _: True, lambda _: True).lines}
    assert set(example) == {name.upper() for name in Settings.model_fields}
    given = {key.lower(): value for key, value in example.items() if value}
    defaults = Settings()
    assert defaults == Settings.model_validate(given)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("API_INSTANCES=three", "'three': it must be a whole number (number of"),
        ("API_INSTANCES=0", "'0': it must be 1 or more ("),
        ("API_PORT=70000", "'70000': it must be 65535 or less ("),
        ("ENABLE_META=perhaps", "'perhaps': it must be true or false ("),
        ("LOG_LEVEL=loud", "'loud': it must be one of 'debug', 'info', 'warning' or 'error' ("),
        ("PUBLIC_URL=bots.example", "'bots.example': it must be an http:// or https:// address ("),
        ("META_MAX_MESSAGES_PER_SECOND=fast", "'fast': it must be a number ("),
        ("ENCRYPTION_KEY=hush", ", line 2: it must be 64 hex digits or 32 characters ("),
    ],
)
def test_a_refused_value_is_named_with_its_line_and_the_wanted_form(tmp_path: Path, line: str, words: str) -> None:
    path = env(tmp_path, f"# first\n{line}\n")
    [problem] = load_partly(path).problems.values()
    assert problem.startswith(f"{line.partition('=')[0]} in {path}, line 2: ")
    assert words in problem
    assert "hush" not in problem


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_a_refused_value_of_any_setting_is_shown_unless_it_is_a_secret(tmp_path: Path, name: str) -> None:
    found = load_partly(env(tmp_path, f"{name.upper()}=-1x hush9\n"))
    secret = "Secret" in str(Settings.model_fields[name].annotation)
    for problem in found.problems.values():
        assert f"{name.upper()} in {found.env_file}, line 1: " in problem
        assert ("hush9" in problem) is not secret
        assert "Input should" not in problem


def test_a_value_of_the_environment_has_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_PORT", "many")
    [problem] = load_partly(env(tmp_path, "API_PORT=5\n")).problems.values()
    assert problem.startswith("API_PORT in the environment: 'many': it must be a whole number")
