"""No way into our own network for an address that somebody else chose.

The address is looked at where the socket is opened, after every name is resolved and for every redirect: a name that
changes its mind between look and use gains nothing.
"""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pycurl

from bisnesctl.settings import Network

#: The part of IPv6 that is given out to the public internet (IANA, "IPv6 Global Unicast Address Assignments").
_PUBLIC_V6 = ip_network("2000::/3")
#: IPv6 addresses behind which a translator reaches the IPv4 address in their last 32 bits (RFC 6052).
_TRANSLATED = ip_network("64:ff9b::/96")


def may_reach(address: str, open_networks: Sequence[Network]) -> bool:
    """Whether an IP address is one of the public internet, or of the networks that are open."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        found = _embedded(found) or found
    if any(found in network for network in open_networks if network.version == found.version):
        return True
    return _is_public(found)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and (address not in _PUBLIC_V6 or address.sixtofour or address.teredo):
        return False
    return address.is_global and not address.is_multicast


class Gate:
    """Opens sockets for libcurl, to permitted addresses alone."""

    def __init__(self, open_networks: Sequence[Network]) -> None:
        self._open_networks = open_networks
        self.refused: str | None = None  # the last address that was not permitted

    def __call__(self, purpose: int, address: Any) -> Any:
        """libcurl's OPENSOCKETFUNCTION: a socket, or word that there is none; raises nothing."""
        try:
            host = str(address.addr[0])
            if purpose == pycurl.SOCKTYPE_IPCXN and may_reach(host, self._open_networks):
                return socket.socket(address.family, address.socktype, address.protocol)
            self.refused = host
        except Exception:
            self.refused = "an address that cannot be read"
        return pycurl.SOCKET_BAD


def guard(handle: Any, open_networks: Sequence[Network]) -> Gate:
    """Confine a pycurl handle to http and https on the public internet and `open_networks`, without any proxy.

    What it refuses fails with E_COULDNT_CONNECT; the gate says which address that was. Connections that libcurl uses
    again passed when they were opened, so share them between handles of the same networks only.
    """
    gate = Gate(open_networks)
    handle.setopt(pycurl.OPENSOCKETFUNCTION, gate)
    handle.setopt(pycurl.PROXY, "")
    handle.setopt(pycurl.NOPROXY, "*")
    handle.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    handle.setopt(pycurl.REDIR_PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    return gate
