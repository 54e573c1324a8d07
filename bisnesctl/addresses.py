"""Hosts and ports: the only place that parses, compares and writes them, IPv6 included."""

import ipaddress
import re
import socket

#: The address of this machine for programs that no other machine may reach.
LOOPBACK = "127.0.0.1"
#: Addresses on which a program listens to all others, with one at which this machine reaches it.
_WILDCARDS = {"": LOOPBACK, "0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104

#: How to write characters in the user or the password of a URL that would end them.
ENCODE = "write % as %25, @ as %40, / as %2F, # as %23, ? as %3F, : as %3A"

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.(?!-)[A-Za-z0-9_-]{1,63})*\.?")


def parse_host(text: str) -> str:
    """A host name, an IPv4 address or an IPv6 address, which may stand in brackets. Raises `ValueError`."""
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in host or host != text:
        return _parse_ipv6(host)
    if re.fullmatch(r"[0-9.]+", host):
        return str(ipaddress.IPv4Address(host))
    if not _NAME.fullmatch(host):
        raise ValueError("must be an IPv4 address, an IPv6 address or a host name, without a port")
    return host


def _parse_ipv6(text: str) -> str:
    if "%" in text:
        raise ValueError("must not have a zone id (the part from %): use an address that needs none, or ::")
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError("must be an IPv6 address, an IPv4 address or a host name, without a port") from None


def is_ipv6(host: str) -> bool:
    """Whether a parsed host is an IPv6 address."""
    return ":" in host


def family(host: str) -> socket.AddressFamily:
    """The family of the socket on which a program listens: host names mean IPv4."""
    return socket.AF_INET6 if is_ipv6(host) else socket.AF_INET


def host_and_port(host: str, port: int) -> str:
    """Both as URLs and gunicorn write them, such as `127.0.0.1:3000` and `[::1]:3000`."""
    return f"[{host}]:{port}" if is_ipv6(host) else f"{host}:{port}"


def local_url(host: str, port: int) -> str:
    """The URL at which this machine reaches a program that listens on `host`, without a path."""
    return f"http://{host_and_port(_WILDCARDS.get(host, host), port)}"


def overlap(one: str, other: str) -> bool:
    """Whether two programs cannot listen on the same port of these hosts."""
    if one in _WILDCARDS or other in _WILDCARDS:
        return True
    return not _addresses(one).isdisjoint(_addresses(other))


def ends_early(url: str, ends: str = "/?#") -> bool:
    """Whether a URL's user or password has a character that ends it, or is no valid percent-encoding.

    `ends`: the characters that end the part with user, password and host.
    """
    parts = re.fullmatch(rf"\w+://(?P<server>[^{ends}]*)(?P<rest>.*)", url, re.DOTALL)
    if parts is None:
        return False
    server, rest = parts["server"], parts["rest"].partition("?")[0]
    cut_off = server != "" and "@" not in server and "@" in rest
    return server.count("@") > 1 or cut_off or _BAD_ESCAPE.search(server) is not None


def _addresses(host: str) -> set[str]:
    """The addresses of a host; its name if it has none now."""
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, family(host), socket.SOCK_STREAM)}
    except OSError:
        return {host}
