"""While PostgreSQL is unavailable, process events and the audit trail are kept; they arrive afterwards, each once."""

import json
import os
import signal

from bisnesctl.audit import trail
from bisnesctl.database import migrations
from bisnesctl.health import guard_file
from tests.support.deployment import PORTS, free_ports
from tests.support.outbox import execute, open_database
from tests.support.processes.supervisord import supervised
from tests.support.waiting import wait_until


def test_what_happened_without_postgresql_arrives_afterwards_once(own_postgres, environment, tool):
    own_postgres.run("CREATE DATABASE away")
    migrations.apply(own_postgres.dsn("away"))
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    settings = environment(DATABASE_URL=own_postgres.dsn("away"), SANDBOX="true", **ports)
    log = settings.log_dir / "guard.err.log"
    with supervised(settings) as supervisor:

        def killed(name):
            """SIGKILL it, and wait for its successor."""
            pid = supervisor.processes()[name].pid
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: supervisor.processes()[name].pid not in (0, pid))

        def spooled():
            files = settings.home.glob("guard-spool.*")
            return [json.loads(line) for file in files for line in file.read_text().splitlines() if line]

        supervisor.start("guard:guard")
        wait_until(lambda: (settings.run_dir / guard_file.GUARD_FILE).exists())
        supervisor.start("sandbox:sandbox")
        wait_until(lambda: supervisor.processes()["sandbox"].pid)
        own_postgres.stop()
        for _ in range(2):
            killed("sandbox")
            tool("keys", "create", "--company", "0128", code=4)
        wait_until(lambda: all(name in log.read_text() for name in ("storing_paused", "audit.delivery_paused")))
        killed("guard")
        wait_until(lambda: sum(each["event_type"] == "process_restarting" for each in spooled()) == 2)
        events = spooled()
        records = [record for _, record in trail.waiting(settings.home)]
        actions = [each.action for each in records]
        assert (actions.count("keys create"), actions.count("process_restarting")) == (2, 2)
        own_postgres.start()
        wait_until(lambda: not spooled() and not list(trail.waiting(settings.home)), what=log.read_text)

    pool, connection = open_database(settings.database_dsn)
    stored = execute(connection, "SELECT id::text FROM audit_record ORDER BY at")
    assert [each for (each,) in stored] == [each.id for each in records]
    same = "SELECT count(*)::int FROM process_events WHERE event_type = %s AND event_data = %s"
    for each in events:
        found = execute(connection, same, (each["event_type"], json.dumps(each["event_data"])))
        assert found == [(1,)], each
    again = execute(connection, "SELECT event_type, event_data FROM process_events GROUP BY 1, 2, timestamp"
                    " HAVING count(*) > 1")  # fmt: skip
    assert again == []
    connection.close()
    pool.close()
