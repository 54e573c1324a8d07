"""`bisnesctl sandbox say`, as it is typed, in front of a running simulator."""

import contextlib
import json

import psycopg2
import pytest
from sandbox_stage import Receiver, Sandbox, free_port

from bisnesctl import vault
from bisnesctl.__main__ import main
from bisnesctl.sandboxclient import DEMO_NUMBER
from bisnesctl.settings import Settings

KEY = "0123456789abcdef" * 4
PNG = b"\x89PNG\r\n\x1a\n" + b"dot" * 40


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    receiver = Receiver()
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"), receiver.port, free_port())
    yield sandbox
    sandbox.end()
    receiver.close()


@pytest.fixture
def say(stage, monkeypatch, tmp_path, capsys):
    """Types `bisnesctl sandbox say` with these words and returns what the simulator then heard of a customer."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("BISNES_ENV", str(tmp_path / ".env"))
    stage.reset()

    def run(*words, port=stage.port, code=0, **variables):
        lines = {"SANDBOX_PORT": port, "ENCRYPTION_KEY": KEY} | variables
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        assert main(["sandbox", "say", *words]) == code, capsys.readouterr().err
        return stage.inbound()

    return run


def test_a_text_goes_to_the_demo_number(say, capsys):
    (heard,) = say("Hello")
    assert (heard["phone_number_id"], heard["chat"], heard["text"]) == (DEMO_NUMBER, "60123456789", "Hello")
    assert capsys.readouterr().out.strip() == heard["wamid"]


def test_what_a_customer_does_is_said_in_options(say, capsys, tmp_path):
    (tmp_path / "dot.png").write_bytes(PNG)
    to = ("--to", "1055", "--from", "60129999999", "--name", "Ana")
    say(*to, "Hello")
    wamid = capsys.readouterr().out.strip()
    say(*to, "look", "--image", str(tmp_path / "dot.png"), "--reply-to", wamid)
    say(*to, "--reaction", "👍", "--about", wamid)
    say(*to, "--reaction", "", "--about", wamid)
    say(*to, "--button", "Yes")
    say(*to, "--type", "location", "--content", '{"latitude": 3.1, "longitude": 101.7}')
    heard = say("--to", "1055", "--user-id", "US.1349", "hidden", "--count", "2", "--json")
    assert [(each["kind"], each["chat"], each["text"]) for each in reversed(heard)] == [
        ("text", "60129999999", "Hello"), ("image", "60129999999", "look"), ("reaction", "60129999999", "👍"),
        ("reaction", "60129999999", ""), ("interactive", "60129999999", "Yes"),
        ("location", "60129999999", '{"latitude":3.1,"longitude":101.7}'),
        ("text", "US.1349", "hidden 1"), ("text", "US.1349", "hidden 2"),
    ]  # fmt: skip
    assert heard[-2]["target"] == wamid
    printed = json.loads("{" + capsys.readouterr().out.split("{", 1)[1])
    assert printed["ids"] == [each["wamid"] for each in reversed(heard[:2])]


def test_a_companys_number_is_found(say, stage, database, capsys):
    with contextlib.closing(psycopg2.connect(database)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO phone_configs (company_id, phone_index, connection_type, meta_phone_number_id,"
            " api_key_encrypted) VALUES ('0128', 0, 'meta_direct', '1077', NULL), ('0128', 1, '360dialog', NULL, %s)",
            (vault.encrypt(KEY, "key-of-360dialog"),),
        )
    (heard,) = say("--company", "0128", "Hello", DATABASE_URL=database)
    assert heard["phone_number_id"] == "1077"
    say("--company", "0128", "--phone", "1", "Hello", DATABASE_URL=database, code=2)
    assert "no webhook is set up" in capsys.readouterr().err
    say("--company", "0128", "--phone", "2", "Hello", DATABASE_URL=database, code=2)
    assert "bisnesctl bots list" in capsys.readouterr().err


def test_an_error_is_one_line_with_the_next_step(say, capsys, tmp_path):
    say("Hello", port=free_port(), code=4)
    assert "bisnesctl start --multiprocess --sandbox" in capsys.readouterr().err
    say("Hello", "--from", "Ana", code=2)
    assert "from" in capsys.readouterr().err
    say("--image", str(tmp_path / "missing.png"), code=2)
    assert "missing.png cannot be read" in " ".join(capsys.readouterr().err.split())
