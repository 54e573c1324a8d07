"""A supervisord of a test's own, with our plugin in it."""

import contextlib
import os
import re
import signal
from collections.abc import Iterator

from bisnesctl.host.process_stat import is_alive
from bisnesctl.lifecycle.start import launch
from bisnesctl.processes import embedded_servers
from bisnesctl.processes.deployment import make_folders, open_deployment
from bisnesctl.processes.render import write_config
from bisnesctl.processes.supervisor import Supervisor
from bisnesctl.settings import Settings
from tests.support.deployment import free_ports
from tests.support.waiting import wait_until

#: Ports that programs have unless a test gives them others.
_DEFAULT_PORTS = {field.default for name, field in Settings.model_fields.items() if name.endswith("port")}


def _own_port(found: re.Match[str]) -> str:
    return str(free_ports(1)[0]) if int(found[0]) in _DEFAULT_PORTS else found[0]


@contextlib.contextmanager
def supervised(settings: Settings, more: str = "") -> Iterator[Supervisor]:
    """supervisord with the programs of these settings, none of which runs, and with `more` sections.

    Programs with default ports get others, since several tests run at once.
    """
    deployment = open_deployment(settings)
    make_folders(settings)
    write_config(settings, deployment.instances, settings.run_dir, embedded_servers.command_variables(settings))
    text = deployment.config.read_text().replace("autostart = true", "autostart = false")
    text = re.sub(r"(?<=^socket = tcp://127\.0\.0\.1:)\d+$", _own_port, text, flags=re.MULTILINE)
    deployment.config.write_text(text + more)
    launch(deployment.supervisor, deployment.config, False, {**os.environ, "BISNES_ENV": str(settings.env_file)})
    pid = deployment.supervisor.pid()
    try:
        yield deployment.supervisor
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not is_alive(pid))
