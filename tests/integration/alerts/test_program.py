"""The program `alerts` as supervisord runs it."""

import os
import subprocess
import sys

import pytest

from bisnesctl.alerts import state_file
from bisnesctl.processes.deployment import make_folders, record_start
from bisnesctl.processes.topology import Mode
from tests.support.processes.servers import settings_in
from tests.support.waiting import HANG_SECONDS, wait_until


@pytest.mark.parametrize(
    ("line", "reason"),
    [(b"ALERT_REPEAT_HOURS=\xff", "cannot be read"), (b"META_ATTEMPTS=many", "META_ATTEMPTS"), (b"?", "line ")],
)
def test_settings_that_are_wrong_are_an_alert_until_they_are_corrected(tmp_path, line, reason):
    settings = settings_in(
        tmp_path, DATABASE_URL="postgresql://127.0.0.1:1/x", REDIS_URL="redis://127.0.0.1:1",
        ALERT_CHECK_INTERVAL="100", ALERT_RESOLVE_SECONDS="0",
    )  # fmt: skip
    make_folders(settings)
    record_start(settings.run_dir, Mode.MULTIPROCESS, False, ())
    before = settings.env_file.read_bytes()

    def incidents():
        found = [each for each in state_file.read(settings.run_dir).incidents if each.name == "settings_health"]
        return [(each.stage.value, reason in each.summary) for each in found]

    environment = {**os.environ, "BISNES_ENV": str(settings.env_file)}
    with subprocess.Popen([sys.executable, "-m", "bisnesctl.alerts"], env=environment) as program:
        try:
            wait_until((settings.run_dir / state_file.STATE_FILE).exists)
            assert incidents() == []
            settings.env_file.write_bytes(before + line + b"\n")
            wait_until(lambda: incidents() == [("firing", True)])
            settings.env_file.write_bytes(before)
            wait_until(lambda: incidents() == [("resolved", True)])
        finally:
            program.terminate()
            program.wait(HANG_SECONDS)
