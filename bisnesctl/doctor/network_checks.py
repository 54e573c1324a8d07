"""Checks of the network: names, providers, and the public address."""

import ipaddress
import socket
import ssl
import time
from urllib.parse import urlsplit

from bisnesctl.doctor.finding import Finding, error, ok, warning
from bisnesctl.doctor.subject import Subject

#: Seconds to connect.
CONNECT_TIMEOUT_SECONDS = 4
#: Days before the end of a certificate that leave time to renew it.
CERTIFICATE_DAYS = 14
_PORTS = {"http": 80, "https": 443}


def _provider_urls(subject: Subject) -> dict[str, str]:
    settings = subject.settings
    found: dict[str, str] = {}
    if settings.enable_meta:
        found |= {"META_GRAPH_URL": settings.meta_graph_url, "DIALOG360_URL": settings.dialog360_url}
    if settings.enable_wwebjs:
        found["WA_URL"] = settings.wa_url
    return found


def in_sandbox(subject: Subject) -> str:
    """Why providers are not asked; empty if they are."""
    return "the sandbox stands in for the providers" if subject.settings.sandbox else ""


def no_public_address(subject: Subject) -> str:
    """Why no public address is needed; empty if one is."""
    if subject.settings.sandbox:
        return "the sandbox reaches this machine by itself"
    return "" if subject.settings.enable_meta else "ENABLE_META is false, so no provider calls webhooks"


def host_names(subject: Subject) -> Finding:
    """The names of the providers' servers can be resolved."""
    unknown = []
    hosts = {urlsplit(url).hostname or "" for url in _provider_urls(subject).values()}
    for host in sorted(hosts):
        try:
            socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as problem:
            unknown.append(f"{host}: {problem.strerror or problem}")
    if unknown:
        return error("; ".join(unknown), "every name has an address", "see /etc/resolv.conf; try `getent hosts NAME`")
    return ok(", ".join(sorted(hosts)))


def providers(subject: Subject) -> Finding:
    """The providers' servers accept connections."""
    refused = []
    for setting, url in _provider_urls(subject).items():
        try:
            with socket.create_connection(_address(url), timeout=CONNECT_TIMEOUT_SECONDS):
                pass
        except OSError as problem:
            refused.append(f"{setting} ({url}): {problem.strerror or problem}")
    if refused:
        fix = f"curl -sS -o /dev/null {next(iter(_provider_urls(subject).values()))}; look at the firewall"
        return warning("; ".join(refused), "they can be reached", fix)
    return ok("all accept connections")


def public_address(subject: Subject) -> Finding:
    """PUBLIC_URL is set to an https address on the internet, which answers with a valid certificate."""
    settings = subject.settings
    url, place = settings.public_url, f"PUBLIC_URL in {settings.env_file}"
    if not url:
        return warning("PUBLIC_URL is empty", "the address at which providers call webhooks", f"set {place}")
    host, port = _address(url)
    if urlsplit(url).scheme != "https":
        return error(f"{url} is not https", "Meta calls https addresses only", f"set {place}")
    try:
        addresses = {each[4][0] for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as problem:
        return error(f"{host} has no address: {problem.strerror or problem}", "a DNS record", f"getent hosts {host}")
    if all(not ipaddress.ip_address(each).is_global for each in addresses):
        found = f"{host} is {', '.join(sorted(map(str, addresses)))}, which is not on the internet"
        return warning(found, "a public address", f"set the DNS record of {host}")
    return _certificate(host, port)


def trusted_proxies(subject: Subject) -> Finding:
    """Behind a reverse proxy, TRUSTED_PROXIES names it, so that limits and the audit trail see the real clients."""
    settings = subject.settings
    if settings.trusted_proxies or not settings.public_url:
        return ok(settings.trusted_proxies or "no reverse proxy is named")
    found = "PUBLIC_URL is set, and TRUSTED_PROXIES is empty: all requests seem to come from the reverse proxy"
    return warning(found, "the address from which it connects", f"set TRUSTED_PROXIES in {settings.env_file}")


def _certificate(host: str, port: int) -> Finding:
    fix = f"curl -v https://{host}:{port}/ ; see `bisnesctl help production`, reverse proxy"
    try:
        with (
            socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_SECONDS) as plain,
            ssl.create_default_context().wrap_socket(plain, server_hostname=host) as secure,
        ):
            ends = ssl.cert_time_to_seconds(str((secure.getpeercert() or {}).get("notAfter")))
    except ssl.SSLCertVerificationError as problem:
        return error(f"the certificate of {host} is refused: {problem.verify_message}", "a valid certificate", fix)
    except OSError as problem:
        return error(f"{host}, port {port}: {problem.strerror or problem}", "it answers over TLS", fix)
    days = int((ends - time.time()) / 86400)
    if days < CERTIFICATE_DAYS:
        return warning(f"the certificate of {host} ends in {days} days", f"{CERTIFICATE_DAYS} days or more", fix)
    return ok(f"{host} answers; its certificate is valid for {days} days")


def _address(url: str) -> tuple[str, int]:
    found = urlsplit(url)
    return found.hostname or "", found.port or _PORTS.get(found.scheme, 443)
