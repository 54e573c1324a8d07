"""The documents are true: the blocks of each page are run, from top to bottom, against a sandbox of its own."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.support import curl
from tests.support.deployment import Deployment, free_ports
from tests.support.documents import PAGES, ROOT, Block, blocks, name
from tests.support.waiting import HANG_SECONDS, wait_until

#: A picture of one dot.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cfc0000000"
    "030001005b1d2a3b0000000049454e44ae426082"
)
#: A WhatsApp Web session without a process: it shows a QR code, and carries out each command at once.
SESSION = """
INSERT INTO wa_session (bot_id, state, qr) SELECT id, 'SCAN_QR_CODE', '2@ref' FROM phone_configs WHERE phone_index = 2
ON CONFLICT (bot_id) DO UPDATE SET state = excluded.state, qr = excluded.qr;
CREATE FUNCTION do_command() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.done_at := now();
    NEW.answer := '{"code": "ABCD-EFGH", "findings": []}';
    RETURN NEW;
END $$;
CREATE TRIGGER do_command BEFORE INSERT ON wa_command FOR EACH ROW EXECUTE FUNCTION do_command()"""
PAGES_WITH_A_SESSION = ("docs/how-to/link-whatsapp-web.md",)
#: Pages after which the settings, the numbers and a start make a deployment as it was.
PAGES_THAT_CHANGE_SOMETHING = (
    "docs/how-to/alerts.md",
    "docs/how-to/dashboard.md",
    "docs/how-to/link-meta.md",
    "docs/how-to/operate.md",
    "docs/how-to/production.md",
    "docs/how-to/roll-back.md",
)
#: Pages that stop everything, let the simulators misbehave, or need a deployment to which nothing has happened.
PAGES_THAT_CHANGE_MUCH = (
    "docs/tutorials/quickstart.md",
    "docs/how-to/roll-out.md",
    "docs/how-to/sandbox.md",
    "docs/how-to/upgrade.md",
)
#: The port that the documents use for a program of the reader's.
READERS_PORT = "9000"
#: Blocks in the background must print this before their page ends.
EXPECTED = {
    "docs/tutorials/first-integration.md": ("message Thank you", "message.ack sent", "message.ack delivered"),
    "docs/how-to/receive-events.md": (),
}
#: Before the blocks: the latest ids become variables before each command, and the end ends the background.
PROLOGUE = """set -euo pipefail
trap '. "$DOCUMENT_VARIABLES"' DEBUG
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"""
#: Seconds for all blocks of a page.
PAGE_TIMEOUT_SECONDS = 300


def to_run(path: Path) -> list[Block]:
    """The blocks of a page that are run."""
    return [each for each in blocks(path.read_text()) if each.language in ("sh", "sql") and each.is_run]


def started(folder):
    """A deployment in the sandbox, with a number on Meta for two companies."""
    deployment = Deployment(
        folder, HEARTBEAT_INTERVAL="1000", API_INSTANCES="1", META_INSTANCES="1", ENABLE_WWEBJS="false", SANDBOX="true"
    )
    deployment.run("start", "--multiprocess")
    add_numbers(deployment)
    return deployment


def add_numbers(deployment):
    """A number on Meta for each of two companies."""
    deployment.add_demo_bot("0100")
    deployment.add_demo_bot("0128")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The deployment of all pages that leave one as they found it."""
    deployment = started(tmp_path_factory.mktemp("shared"))
    yield deployment
    deployment.close()


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    deployment = started(tmp_path_factory.mktemp("changed"))
    yield deployment
    deployment.close()


@pytest.fixture
def restored(changed):
    """A deployment of several pages, each of which finds it as it was."""
    env_file = changed.folder / ".env"
    text = env_file.read_text()
    yield changed
    env_file.write_text(text)
    changed.run("start", "--multiprocess")
    add_numbers(changed)


@pytest.fixture
def own(tmp_path):
    deployment = started(tmp_path)
    yield deployment
    deployment.close()


@pytest.mark.parametrize("page", [path for path in PAGES if to_run(path)], ids=name)
def test_every_block_of_a_page_works(page, request):
    deployment = request.getfixturevalue(
        "own" if name(page) in PAGES_THAT_CHANGE_MUCH
        else "restored" if name(page) in PAGES_THAT_CHANGE_SOMETHING
        else "shared"
    )  # fmt: skip
    prepare(deployment, with_session=name(page) in PAGES_WITH_A_SESSION)
    script = deployment.folder / "page.sh"
    script.write_text(as_script(page, deployment))
    (deployment.folder / "background.log").unlink(missing_ok=True)
    log = deployment.folder / "page.log"
    with log.open("w") as output, subprocess.Popen(
        ["bash", script], cwd=deployment.folder, env=environment(deployment), stdin=subprocess.DEVNULL,
        stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            wait_until(lambda: process.poll() is not None, PAGE_TIMEOUT_SECONDS, lambda: log.read_text())
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, f"{log.read_text()}\n{deployment.logs()}"


#: A route as documents name one: a method and a whole path.
ROUTE = re.compile(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`?…]+)[^`…]*`")
#: Routes that are not those of the API: the receiver's, and the simulators'.
OTHER_ROUTES = ("/api/meta/", "/api/360dialog/", "/_sandbox", "/_wa")


def test_the_routes_of_the_documents_exist(shared):
    known = requests.get(f"{shared.api}/openapi/openapi.json", timeout=HANG_SECONDS).json()["paths"]
    operations = [(method.upper(), as_pattern(path)) for path, methods in known.items() for method in methods]
    named = {route for page in PAGES for route in ROUTE.findall(page.read_text())}
    missing = {
        (method, path)
        for method, path in named
        if not path.startswith(OTHER_ROUTES)
        and not any(method == each and pattern.fullmatch(path) for each, pattern in operations)
    }
    assert len(named) > 15
    assert missing == set()


def as_pattern(path):
    """A pattern for the requests of an OpenAPI path. Parameters match anything."""
    return re.compile(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(path)))


def test_pages_with_blocks_in_the_background_say_what_is_expected():
    found = {name(path) for path in PAGES if any(each.in_background for each in to_run(path))}
    assert found == set(EXPECTED)


def prepare(deployment, with_session):
    """The files, programs and numbers that the documents name."""
    if with_session:
        deployment.run("bots", "add", "--company", "0128", "--phone", "2", "--wwebjs")
        deployment.rows(SESSION)
    (deployment.folder / "photo.png").write_bytes(PNG)
    (deployment.folder / "token.txt").write_text("EAAG-sandbox\n")
    (deployment.folder / "key.txt").write_text("sandbox-key\n")
    key = deployment.run("keys", "create", "--company", "0100").stdout
    (deployment.settings.home / "quickstart.key").write_text(key)
    programs = deployment.folder / "bin"
    programs.mkdir(exist_ok=True)
    write_program(programs / "bisnesctl", "-m bisnesctl")
    write_program(programs / "curl", shlex.quote(curl.__file__))
    (deployment.folder / "variables.sh").write_text(f"INCOMING_ID={an_incoming_message(deployment)}\n")


def write_program(path, arguments):
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
    path.chmod(0o755)


def an_incoming_message(deployment):
    """The provider's id of what a customer wrote, once the API knows it."""
    said = {"from": "60123456789", "to": "1001280", "text": "Hi"}
    (wamid,) = requests.post(f"{deployment.sandbox}/say", json=said, timeout=HANG_SECONDS).json()["ids"]
    address = f"{deployment.api}/api/v2/messages/0128/60123456789/{wamid}"
    wait_until(lambda: requests.get(address, headers={"X-Api-Key": deployment.key}, timeout=HANG_SECONDS).ok)
    return wamid


def as_script(page, deployment):
    """All blocks of a page as one script of bash, so that variables live on from one to the next."""
    pieces = [PROLOGUE, *(as_commands(block, deployment) for block in to_run(page))]
    pieces += [
        f"until grep -qF {shlex.quote(text)} background.log; do sleep 0.1; done"
        for text in EXPECTED.get(name(page), ())
    ]
    return "\n".join(pieces).replace(READERS_PORT, str(free_ports(1)[0]))


def as_commands(block, deployment):
    if block.language == "sql":
        statement = f"import psycopg2, sys; psycopg2.connect(sys.argv[1]).cursor().execute({block.text!r})"
        return shlex.join([sys.executable, "-c", statement, deployment.settings.database_dsn])
    if block.in_background:
        return f"{{\n{block.text}\n}} >>background.log 2>&1 &"
    return block.text


def environment(deployment):
    settings = deployment.settings
    ports = {
        "3000": settings.api_port, "3001": settings.wwebjs_port, "3002": settings.meta_port,
        "3010": settings.sandbox_port, "8443": settings.port,
    }  # fmt: skip
    return deployment.environment | {
        "PATH": f"{deployment.folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DOCUMENT_PORTS": json.dumps(ports),
        "DOCUMENT_VARIABLES": str(deployment.folder / "variables.sh"),
    }
