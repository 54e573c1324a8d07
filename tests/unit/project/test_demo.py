"""The second half of the quickstart, which is no module of a package."""

import importlib.util
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[3] / "scripts" / "lib" / "demo.py"


@pytest.fixture
def demo(monkeypatch):
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    return module


@pytest.mark.parametrize(
    ("told", "scans"),
    [
        (["STARTING", "SCAN_QR_CODE", "SCAN_QR_CODE", "WORKING"], 1),
        (["SCAN_QR_CODE", "STARTING", "SCAN_QR_CODE", "WORKING"], 1),
        (["STARTING", "WORKING"], 0),
    ],
    ids=["shown a while after the scan", "shown again", "linked before"],
)
def test_a_qr_code_is_scanned_once(demo, monkeypatch, told, scans):
    """The code that a session shows while it is being linked is not scanned again."""
    states, ran = iter(told), []
    monkeypatch.setattr(demo, "session", lambda settings, key: {"status": next(states)})
    monkeypatch.setattr(demo, "bisnesctl", lambda *words, given="": ran.append(words[:2]))
    demo.link(None, "key")
    assert ran == [("sandbox", "scan")] * scans


def test_a_session_that_never_works_is_reported(demo, monkeypatch):
    monkeypatch.setattr(demo, "session", lambda settings, key: {"status": "FAILED"})
    monkeypatch.setattr(demo, "LINK_PATIENCE", 0)
    with pytest.raises(demo.DemoError, match="FAILED"):
        demo.link(None, "key")
