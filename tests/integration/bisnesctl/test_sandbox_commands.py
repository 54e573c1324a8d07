"""`bisnesctl sandbox say` and `scan`, as they are typed, in front of a running simulator."""

import contextlib
import json

import psycopg2
import pytest

from bisnesctl import encryption
from bisnesctl.__main__ import main
from bisnesctl.clients.sandbox_client import DEMO_NUMBER
from bisnesctl.settings import Settings
from tests.support.sandbox import Receiver, free_port
from tests.support.web_page import Page, WebSandbox

KEY = "0123456789abcdef" * 4
PNG = b"\x89PNG\r\n\x1a\n" + b"dot" * 40


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    receiver = Receiver()
    sandbox = WebSandbox(tmp_path_factory.mktemp("sandbox"), receiver.port)
    yield sandbox
    sandbox.end()
    receiver.close()


@pytest.fixture
def say(stage, monkeypatch, tmp_path, capsys):
    """Runs `bisnesctl sandbox say`, or another `command`; returns the messages that the simulator received."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("BISNES_ENV", str(tmp_path / ".env"))
    stage.reset()

    def run(*words, command="say", port=stage.port, code=0, **variables):
        lines = {"SANDBOX_PORT": port, "ENCRYPTION_KEY": KEY} | variables
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        assert main(["sandbox", command, *words]) == code, capsys.readouterr().err
        return stage.inbound()

    return run


def test_a_text_goes_to_the_demo_number(say, capsys):
    (heard,) = say("Hello")
    assert (heard["phone_number_id"], heard["chat"], heard["text"]) == (DEMO_NUMBER, "60123456789", "Hello")
    assert capsys.readouterr().out.strip() == heard["wamid"]


def test_options_describe_what_a_customer_does(say, capsys, tmp_path):
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
            (encryption.encrypt_shared(KEY, "key-of-360dialog"),),
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


def test_a_page_of_whatsapp_web_is_scanned_and_receives_messages(say, stage, capsys):
    page = Page(stage)
    say("60110000001", command="scan")
    assert capsys.readouterr().out.strip() == page.device
    say("--to", "60110000001", "--from", "60129999999", "Hello", "--count", "2")
    keys = capsys.readouterr().out.split()
    say("--to", "60110000001", "--from", "60129999999", "--reaction", "👍", "--about", keys[0])
    assert [(each["key"], each["chat"], each["body"], each["reactions"]) for each in stage.wa_messages()] == [
        (keys[0], "60129999999@c.us", "Hello 1", {"60129999999@c.us": "👍"}),
        (keys[1], "60129999999@c.us", "Hello 2", {}),
    ]
    say("60110000002", "--wait", "0", command="scan", code=2)
    assert "no page shows a QR code" in " ".join(capsys.readouterr().err.split())
    other = Page(stage)
    say("--code", other.ask("code", number="60110000002")["code"], command="scan")
    assert stage.wa_device("60110000002")["id"] == other.device
    say("--code", "ABCD-EFGH", command="scan", code=2)
    assert "pairing code" in capsys.readouterr().err
    for number in "60110000001", "60110000002":
        stage.wa("logout", number=number)


def test_the_code_of_a_bot_is_scanned_and_its_number_receives_messages(say, stage, database, capsys):
    page, _other = Page(stage), Page(stage)
    where = ("--company", "0128", "--phone", "1")
    with contextlib.closing(psycopg2.connect(database)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(
            "INSERT INTO phone_configs (company_id, phone_index, connection_type) VALUES ('0128', 1, 'wwebjs')"
        )
        say(*where, "Hello", DATABASE_URL=database, code=2)
        assert "bisnesctl sandbox scan" in " ".join(capsys.readouterr().err.split())
        say(*where, "--wait", "0", "60110000003", command="scan", DATABASE_URL=database, code=2)
        assert "no QR code yet" in capsys.readouterr().err
        cursor.execute(
            "INSERT INTO wa_session (bot_id, state, qr) SELECT id, 'SCAN_QR_CODE', %s FROM phone_configs",
            (f"{page.state['ref']},noise,identity,adv,1",),
        )
        say(*where, "60110000003", command="scan", DATABASE_URL=database)
        assert stage.wa_device("60110000003")["id"] == page.device
        cursor.execute("UPDATE wa_session SET state = 'WORKING', qr = NULL, own_number = '60110000003'")
        say(*where, "60110000003", command="scan", DATABASE_URL=database, code=2)
        assert "WORKING" in capsys.readouterr().err
        say(*where, "To the bot", DATABASE_URL=database)
    assert [each["number"] for each in stage.wa_messages(text="To the bot")] == ["60110000003"]
    stage.wa("logout", number="60110000003")
