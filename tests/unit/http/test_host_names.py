"""Which names a request may call this server by."""

import socket

import pytest

from services.http_server.host_names import HostNames

NAMES = HostNames(["https://Bots.Example.com/x", ""])
KNOWN = [
    "", "127.0.0.1", "127.0.0.1:3000", "[::1]:3000", "10.1.2.3", "203.0.113.7:80", "localhost", "LOCALHOST:3000",
    "app.localhost", "api", "api:3000", "node1.internal", "bots.local", "api.default.svc",
    "api.default.svc.cluster.local",
    "bots.example.com", "BOTS.example.com.", "bots.example.com:8443", socket.gethostname(),
]  # fmt: skip
FOREIGN = [
    "evil.example", "evil.example:3000", "127.0.0.1.evil.example", "localhost.evil.example",
    "bots.example.com.evil.net",
    "xbots.example.com", "example.com", "1.2.3", "[::1", "a@127.0.0.1.evil.example", "internal.evil.net",
]  # fmt: skip


@pytest.mark.parametrize("host", KNOWN)
def test_the_names_of_this_server_and_private_names_are_known(host):
    assert NAMES.include(host)


@pytest.mark.parametrize("host", FOREIGN)
def test_a_public_name_that_may_lead_here_is_foreign(host):
    assert not NAMES.include(host)
