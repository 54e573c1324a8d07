"""The address of a client behind a reverse proxy: believed from trusted proxies, and from nobody else."""

import pytest
import requests

from bisnesctl.audit import trail
from tests.support.api import KEY, add_company, settings_for
from tests.support.processes.http_process import http_server
from tests.support.waiting import HANG_SECONDS

CLIENT = "203.0.113.7"


@pytest.mark.parametrize(
    ("trusted", "header", "origin"),
    [
        ("127.0.0.1", CLIENT, CLIENT),
        ("127.0.0.0/8,10.0.0.0/8", f"198.51.100.1, {CLIENT}, 10.1.2.3", CLIENT),  # the client claims the first one
        ("127.0.0.1", "", "127.0.0.1"),
        ("10.0.0.1", CLIENT, "127.0.0.1"),
        ("", CLIENT, "127.0.0.1"),
    ],
)
def test_the_audit_trail_has_the_address_of_the_client(database, tmp_path, trusted, header, origin):
    add_company(database)
    settings = settings_for(database, tmp_path, TRUSTED_PROXIES=trusted)
    with http_server(settings, "services.api.asgi:app", "api", "/health") as server:
        headers = {"X-Api-Key": KEY} | ({"X-Forwarded-For": header} if header else {})
        answer = requests.post(f"{server.url}/api/webhooks", json={}, headers=headers, timeout=HANG_SECONDS)
        assert answer.status_code == 400
    (found,) = [record for _, record in trail.waiting(settings.home)]
    assert found.origin == origin
