"""A real guard under a real supervisord continues after input and output that are no part of their protocol."""

import os
import signal
from pathlib import Path

from bisnesctl.health import guard_file
from tests.support.deployment import PORTS, free_ports
from tests.support.processes.servers import settings_in
from tests.support.processes.supervisord import supervised
from tests.support.waiting import wait_until

GARBAGE = (
    b"timestamp=2026-11-27T04:00:00Z level=info event=api.started\n",
    b"\xff\xfe\x00\x1b[31m garbage\n",
    b"ver:3.0 server:bisnes serial:x pool:guard poolserial:1 eventname:PROCESS_STATE_EXITED len:9\n",
    b"ver:3.0 server:bisnes serial:1 pool:guard poolserial:1 eventname:PROCESS_STATE_EXITED len:-1\n",
)


def test_a_guard_continues_after_garbage(tmp_path):
    settings = settings_in(
        tmp_path, DATABASE_URL="postgresql:///x?host=/nonexistent", REDIS_URL="redis://127.0.0.1:1", SANDBOX="true",
        **dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True)),
    )  # fmt: skip
    spool, log = settings.home / "guard-spool.jsonl", settings.log_dir / "guard.err.log"
    with supervised(settings) as supervisor:

        def pid(name):
            wait_until(lambda: supervisor.processes()[name].pid)
            return supervisor.processes()[name].pid

        def exits():
            return sum(each.read_text().count('"process_exited"') for each in spool.parent.glob("guard-spool.*"))

        def ends_and_is_noticed():
            """supervisord notifies the guard of the end of a process, and the guard starts another one."""
            killed, before = pid("sandbox"), exits()
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: exits() == before + 1, what=log.read_text)
            wait_until(lambda: supervisor.processes()["sandbox"].pid not in (0, killed))

        supervisor.start("guard:guard")
        wait_until(lambda: (settings.run_dir / guard_file.GUARD_FILE).exists())
        guard = pid("guard")
        supervisor.start("sandbox:sandbox")
        ends_and_is_noticed()
        Path(f"/proc/{guard}/fd/0").write_bytes(b"".join(GARBAGE))
        wait_until(lambda: log.read_text().count("guard.input_skipped") == len(GARBAGE))
        ends_and_is_noticed()
        Path(f"/proc/{guard}/fd/1").write_bytes(b"a library writes to the standard output\n")
        wait_until(lambda: "a library writes" in log.read_text())
        ends_and_is_noticed()
        assert pid("guard") == guard
