"""supervisord's logs on disks that take nothing."""

import os

import pytest
from supervisor import loggers

from bisnesctl.processes import supervisor_logs
from bisnesctl.processes.supervisor_logs import LastingLog
from tests.support.processes.disks import again_in_a_namespace, mounts, small_disk


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(supervisor_logs, "REOPEN_INTERVAL_SECONDS", 0.0)


def log(handler, text):
    handler.emit(loggers.LogRecord(loggers.LevelsByName.INFO, text.encode()))


def test_again_in_a_namespace_unless_root():
    again_in_a_namespace(__file__)


def test_a_log_that_cannot_be_opened_is_opened_later(tmp_path):
    path = tmp_path / "later" / "api.log"
    handler = LastingLog(str(path), "a", 1000, 2)
    log(handler, "lost\n")
    path.parent.mkdir()
    log(handler, "kept\n")
    assert path.read_text() == "kept\n"


@mounts
def test_a_log_that_cannot_be_rotated_continues_when_it_can(tmp_path):
    with small_disk(tmp_path / "disk") as small:
        path = small.folder / "api.log"
        handler = LastingLog(str(path), "a", 100, 2)
        log(handler, "x" * 90 + "\n")
        small.read_only()
        for _ in range(50):
            log(handler, "more than fits\n")
        small.writable()
        log(handler, "again\n")
        log(handler, "and again\n")
    assert not handler.stream.closed


@mounts
def test_a_log_continues_when_the_disk_has_space_again(tmp_path):
    with small_disk(tmp_path / "disk") as small:
        path = small.folder / "api.log"
        handler = LastingLog(str(path), "a", 20 << 20, 2)
        log(handler, "before\n")
        small.fill()
        for _ in range(1000):
            log(handler, "y" * 1000 + "\n")
        small.free()
        log(handler, "after\n")
        assert path.read_text().startswith("before\n")
        assert path.read_text().endswith("after\n")
        handler.close()


def test_lasting_logs_replace_those_of_supervisord(tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "RotatingFileHandler", loggers.RotatingFileHandler)
    logger = loggers.getLogger()
    loggers.handle_file(logger, str(tmp_path / "supervisord.log"), "%(message)s", rotating=True, maxbytes=10, backups=1)
    supervisor_logs.install(logger)
    os.rename(tmp_path, tmp_path.with_name("gone"))
    for _ in range(5):
        logger.info("more than ten bytes")
    program = loggers.getLogger()
    loggers.handle_file(program, "/nonexistent/x.log", "%(message)s", rotating=True, maxbytes=10, backups=1)
    program.info("a line")
    os.rename(tmp_path.with_name("gone"), tmp_path)
