"""A session whose browser's profile was damaged, such as by a failing disk: it says so, and can be linked again."""

import signal

import pytest

from bisnesctl.naming import session_name
from services.connectors.wwebjs.session.session import ExitStatus
from tests.integration.wwebjs.test_bound_number import scan, unblock
from tests.integration.wwebjs.test_session import COMPANY, NUMBER, Stage
from tests.support.waiting import HANG_SECONDS, wait_until
from tests.support.web_page import WebSandbox

#: Has the link of a page count as durable at once.
SOON_DURABLE = "from services.connectors.wwebjs.states import state_machine; state_machine.LINK_DURABLE_SECONDS = 0.0"


@pytest.fixture
def sandbox(tmp_path):
    sandbox = WebSandbox(tmp_path / "sandbox")
    yield sandbox
    sandbox.end()


@pytest.fixture
def stage(database, redis_server, sandbox, tmp_path):
    stage = Stage(database, redis_server.url, tmp_path, sandbox.page_url)
    yield stage
    stage.end()


def damage(settings):
    """Overwrite the databases of the browser, such as the one in which the page keeps its link."""
    databases = [each.parent for each in settings.profile_dir.rglob("CURRENT")]
    assert any(each.name.endswith(".indexeddb.leveldb") for each in databases)
    for file in (each for folder in databases for each in folder.iterdir() if each.is_file()):
        if file.name not in ("CURRENT", "LOCK"):
            file.write_bytes(b"\xa5" * max(file.stat().st_size, 64))


def test_a_session_with_a_damaged_profile_says_so_and_can_be_linked_again(stage, sandbox):
    process = stage.start(SOON_DURABLE)
    stage.becomes("SCAN_QR_CODE", process)
    sandbox.scan(NUMBER)
    profile = stage.settings.profile_dir / session_name(COMPANY, 0)
    wait_until((profile / "linked").exists, what=lambda: process.said)
    process.send_signal(signal.SIGTERM)
    assert process.wait(HANG_SECONDS) == ExitStatus.STOPPED
    damage(stage.settings)
    process = stage.start()
    assert process.wait(HANG_SECONDS) == ExitStatus.GIVEN_UP, process.said
    assert stage.row("state") == "FAILED"
    assert "its profile is damaged, and it is no longer linked" in stage.row("reason")
    process = unblock(stage)
    stage.becomes("SCAN_QR_CODE", process)
    scan(stage, sandbox, NUMBER)
    stage.becomes("WORKING", process)
    assert stage.row("reason") is None
