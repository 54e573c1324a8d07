"""Renders the configuration of a reverse proxy: nginx with TLS in front of the API, the receiver of webhooks and the
dashboard."""

import re
from urllib.parse import urlsplit

from bisnesctl import addresses, paths
from bisnesctl.errors import ConfigError
from bisnesctl.processes.render import File
from bisnesctl.settings import Settings

#: The name of the rendered file.
NGINX_CONF = "bisnesctl-nginx.conf"
#: Stands for the server's name until PUBLIC_URL is set.
EXAMPLE_NAME = "bots.example.com"
#: The folder of certbot.
CERTIFICATES = "/etc/letsencrypt/live"
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


def render_nginx(settings: Settings) -> File:
    """The configuration for these settings. Raises `ConfigError` if PUBLIC_URL names no host that nginx can serve."""
    import jinja2

    name = EXAMPLE_NAME if settings.public_url is None else urlsplit(settings.public_url).hostname or ""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{settings.where('public_url')}: name a host, such as https://{EXAMPLE_NAME}")
    template = (paths.shipped_folder("conf") / "nginx" / "bisnesctl.conf.j2").read_text()
    content = jinja2.Template(template, undefined=jinja2.StrictUndefined, keep_trailing_newline=True).render(
        api=_upstream(settings.api_host, settings.api_port),
        webhooks=_upstream(settings.meta_host, settings.meta_port),
        dashboard=_upstream(settings.dashboard_host, settings.dashboard_port) if settings.enable_dashboard else "",
        name=name,
        certificate=f"{CERTIFICATES}/{name}/fullchain.pem",
        certificate_key=f"{CERTIFICATES}/{name}/privkey.pem",
    )
    return File(NGINX_CONF, content, 0o644)


def _upstream(host: str, port: int) -> str:
    """The address at which a program on this machine is reached."""
    return urlsplit(addresses.local_url(host, port)).netloc
