"""The processes that supervisord runs load nothing that only a terminal needs: there may be fifty of them."""

import subprocess
import sys

import pytest

#: The modules that `topology` starts.
PROGRAMS = [
    "bisnesctl.guard.__main__", "bisnesctl.alerts.__main__", "services.gunicorn_conf", "services.api.asgi",
    "services.connectors.meta.receiver", "services.worker", "services.events.__main__", "services.wwebjs_manager",
    "services.connectors.wwebjs.__main__",
]  # fmt: skip


@pytest.mark.parametrize("module", PROGRAMS)
def test_a_program_loads_nothing_for_terminals(module: str) -> None:
    check = f"import sys, {module}; print([name for name in ('rich', 'textual', 'typer') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("module", ["bisnesctl.guard.__main__", "bisnesctl.alerts.__main__", "services.worker",
                                    "services.events.__main__", "bisnesctl.views.overview"])  # fmt: skip
def test_the_settings_need_no_general_validator(module: str) -> None:
    check = f"import sys, {module}; print('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "False\n"


#: Modules that take megabytes, and that a program imports only when it first needs them.
LATE = {
    "services.api.asgi": [
        *("redis", "dramatiq", "requests", "urllib3", "segno", "pycurl", "xmlrpc.client"),
        "bisnesctl.processes.deployment",
    ],
    "services.connectors.meta.receiver": [
        *("redis", "dramatiq", "requests", "urllib3", "pydantic", "pycurl", "xmlrpc.client"),
        "bisnesctl.processes.deployment",
    ],
    "services.wwebjs_manager": [
        *("redis", "dramatiq", "requests", "urllib3", "segno", "pycurl", "websocket", "selenium"),
        "services.api.resources",
    ],
    "services.worker": ["requests", "urllib3", "flask"],
    "services.connectors.wwebjs.session.process": ["flask", "pycurl", "requests", "pydantic"],
    "services.events.__main__": ["redis", "dramatiq", "requests", "urllib3", "flask", "asyncio"],
    "bisnesctl.guard.__main__": ["redis", "requests", "urllib3", "jinja2"],
    "bisnesctl.alerts.__main__": ["redis", "requests", "urllib3", "jinja2"],
    "bisnesctl.health.embedded_redis": ["redis"],
}


@pytest.mark.parametrize("module", LATE)
def test_a_program_starts_without_what_it_may_never_need(module: str) -> None:
    check = f"import sys, {module}; print([name for name in {LATE[module]} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_api_prepares_no_model_and_describes_no_route_before_it_is_asked() -> None:
    check = (
        "import services.api.asgi; from services.api.resources import RESOURCES; "
        "from services.api.schemas.bots import BotList; "
        "print(BotList.__pydantic_complete__, [path for each in RESOURCES for path in each.paths])"
    )
    assert (
        subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "False []\n"
    )


def test_rich_can_still_be_imported_afterwards() -> None:
    subprocess.run([sys.executable, "-c", "import services; import rich.console"], check=True)
