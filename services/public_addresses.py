"""Which IP addresses somebody else's URL may lead to: those of the public internet, and the networks that are open."""

import math
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from bisnesctl.setting_types import Network

#: The part of IPv6 that is assigned to the public internet (IANA, "IPv6 Global Unicast Address Assignments").
_PUBLIC_V6 = ip_network("2000::/3")
#: IPv6 addresses behind which a translator reaches the IPv4 address in their last 32 bits (RFC 6052).
_TRANSLATED = ip_network("64:ff9b::/96")
#: Addresses that some versions of Python count as public although they are not (IANA special-purpose registries), and
#: 168.63.129.16, at which Azure serves the machines of its cloud.
_NOT_PUBLIC = tuple(
    ip_network(each)
    for each in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "2001::/23", "2001:db8::/32", "3fff::/20")
)
#: Seconds for which this machine's own addresses are remembered.
OWN_ADDRESSES_VALID_SECONDS = 30.0


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


class OwnAddresses:
    """The addresses of this machine. A connection to one of them passes no firewall."""

    def __init__(self, read: Callable[[], Iterable[str]]) -> None:
        self._read = read
        self._read_at = -math.inf
        self._addresses: frozenset[IPv4Address | IPv6Address] = frozenset()

    def __contains__(self, address: IPv4Address | IPv6Address) -> bool:
        if time.monotonic() > self._read_at + OWN_ADDRESSES_VALID_SECONDS:
            self._addresses = frozenset(ip_address(each.partition("%")[0]) for each in self._read())
            self._read_at = time.monotonic()
        return address in self._addresses


def _of_interfaces() -> Iterable[str]:
    import psutil  # takes two megabytes, and few processes need it

    families = (socket.AF_INET, socket.AF_INET6)
    return (each.address for found in psutil.net_if_addrs().values() for each in found if each.family in families)


_own = OwnAddresses(_of_interfaces)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if address in _own or any(address in network for network in _NOT_PUBLIC if network.version == address.version):
        return False
    if isinstance(address, IPv6Address) and (address not in _PUBLIC_V6 or address.sixtofour or address.teredo):
        return False
    return address.is_global and not address.is_multicast
