"""The rules for a webhook's URL; the addresses that a name resolves to are checked at each connect."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from bisnesctl.setting_types import Network
from services.public_addresses import may_reach


def check(url: str, open_networks: tuple[Network, ...]) -> None:
    """Raise `ValueError`, with a sentence for its author, unless events may be posted to the URL."""
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        raise ValueError("write it in plain ASCII: names in other letters as xn--…, other characters as %XX")
    host = _host(url)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("it must begin with https:// (or http://) and a host")
    if "@" in parts.netloc:
        raise ValueError("it must hold no user name or password; calls are signed instead")
    if _is_private(host, open_networks):
        raise ValueError(f"{host} is not on the internet; the operator can open networks with ALLOWED_NETWORKS")


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for a port that is none
        return parts.hostname or ""
    except ValueError as error:
        raise ValueError(f"it cannot be read: {error}") from None


def _is_private(host: str, open_networks: tuple[Network, ...]) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        host = "127.0.0.1"
    try:
        ip_address(host)
    except ValueError:
        return False  # a name: its addresses may change, and are checked at each call
    return not may_reach(host, open_networks)
