"""The configuration of nginx: it is valid, and nothing but the API and the webhooks is exposed."""

import re
import shutil
import subprocess

import pytest

from bisnesctl.errors import ConfigError
from bisnesctl.processes.nginx import render_nginx
from tests.support.processes.servers import settings_in
from tests.support.waiting import HANG_SECONDS

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")


def test_it_names_the_ports_and_the_host_of_the_settings(tmp_path):
    ports = {"API_PORT": "3100", "META_PORT": "3102"}
    found = render_nginx(settings_in(tmp_path, PUBLIC_URL="https://bots.example.org", **ports))
    assert found.content.count("server_name bots.example.org;") == 2
    assert "server 127.0.0.1:3100;" in found.content
    assert "server 127.0.0.1:3102;" in found.content
    assert "/etc/letsencrypt/live/bots.example.org/fullchain.pem" in found.content


def test_the_dashboard_is_reached_only_if_it_is_on(tmp_path):
    content = render_nginx(settings_in(tmp_path, ENABLE_DASHBOARD="true", DASHBOARD_PORT="3104")).content
    assert "server 127.0.0.1:3104;" in content
    assert "location ^~ /ui/ {" in content
    assert "/ui" not in render_nginx(settings_in(tmp_path)).content


@pytest.mark.parametrize(("host", "upstream"), [("0.0.0.0", "127.0.0.1:3000"), ("::1", "[::1]:3000")])
def test_it_reaches_an_api_that_listens_elsewhere(tmp_path, host, upstream):
    assert f"server {upstream};" in render_nginx(settings_in(tmp_path, API_HOST=host)).content


def test_a_host_that_would_change_the_configuration_is_refused(tmp_path):
    settings = settings_in(tmp_path).copy_with(public_url="https://a;}server{")
    with pytest.raises(ConfigError, match="PUBLIC_URL"):
        render_nginx(settings)


def test_the_header_of_the_client_is_replaced_and_events_are_not_buffered(tmp_path):
    content = render_nginx(settings_in(tmp_path)).content
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in content
    assert "$proxy_add_x_forwarded_for" not in content
    events = content[content.index("location = /api/events") :].partition("}")[0]
    assert "proxy_buffering off;" in events
    assert "3010" not in content
    assert content.rstrip().endswith("return 404;\n    }\n}")


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_nginx_accepts_it(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 3 -subj /CN=localhost"
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    content = render_nginx(settings_in(tmp_path)).content
    content = re.sub(r"ssl_certificate \S+;", f"ssl_certificate {certificate};", content)
    content = re.sub(r"ssl_certificate_key \S+;", f"ssl_certificate_key {key};", content)
    (tmp_path / "site.conf").write_text(content)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    main = tmp_path / "nginx.conf"
    main.write_text(
        f"pid {tmp_path}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {folders} include {tmp_path}/site.conf; }}\n"
    )
    done = subprocess.run(
        [str(NGINX), "-t", "-p", str(tmp_path), "-c", str(main)],
        capture_output=True, text=True, timeout=HANG_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
