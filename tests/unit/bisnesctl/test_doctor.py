"""The checks of `doctor`: each reports a bad condition with what should be and what to type."""

import os
import resource
import socket
import stat
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bisnesctl.doctor import (
    browser_checks,
    machine_checks,
    network_checks,
    runner,
    server_checks,
    setup_checks,
    table,
)
from bisnesctl.doctor.finding import Check, Level, ok, warning
from bisnesctl.doctor.subject import Once, PostgresFacts, Subject
from bisnesctl.errors import Conflict, ExitCode, UsageError
from bisnesctl.host import confine, volumes
from tests.support.processes.servers import settings_in

FACTS = PostgresFacts(160003, "16.3", "UTF8", 1000, 3, 0, False, False, True, True, time.time(), "bisnes", "bots")
REDIS = {"redis_version": "7.2.1", "role": "master", "maxmemory": 0, "used_memory": 1 << 20, "config": {"save": ""}}


@pytest.fixture
def subject(tmp_path):
    """Makes a deployment whose servers answer like this."""

    def make(facts=FACTS, redis=None, **variables):
        variables = {"DATABASE_URL": "postgresql://127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1"} | variables
        found = Subject(settings_in(tmp_path, **variables))
        found.postgres = Once(lambda: facts)
        found.redis = Once(lambda: REDIS | (redis or {}))
        return found

    return make


def is_bad(finding, level, words):
    assert finding.level is level, finding
    assert words in finding.found
    assert finding.wanted
    assert finding.fix
    return True


# --- How checks are run ----------------------------------------------------------------------------------------------


def check(name, run, **more):
    return Check(name, "It holds.", run, **more)


def test_one_that_fails_or_hangs_does_not_keep_the_others_from_running(subject):
    def hang(_):
        time.sleep(600)

    def refuse(_):
        raise Conflict("the port is taken: try `bisnesctl stop`")

    checks = [
        check("a.hangs", hang, seconds=0.05, kind=ExitCode.UNAVAILABLE),
        check("a.breaks", lambda _: 1 / 0),
        check("a.refuses", refuse, kind=ExitCode.CONFLICT),
        check("a.works", lambda _: ok("fine")),
        check("a.none", lambda _: 1 / 0, not_applicable=lambda _: "no reason to"),
    ]
    results = runner.run(checks, subject())
    assert [each.finding.level for each in results] == [*(Level.ERROR,) * 3, Level.OK, Level.SKIPPED]
    assert "did not answer within 0.05 s" in results[0].finding.found
    assert "ZeroDivisionError" in results[1].finding.found
    assert results[2].finding.fix == "bisnesctl stop"
    assert runner.exit_code(results) is ExitCode.UNAVAILABLE
    assert runner.exit_code(results[1:]) is ExitCode.CONFIG
    assert runner.exit_code(results[3:]) is ExitCode.OK


def test_warnings_are_no_failure(subject):
    results = runner.run([check("a.b", lambda _: warning("old", "new", "renew"))], subject())
    assert runner.exit_code(results) is ExitCode.OK


def test_a_fact_is_read_once_even_if_that_fails():
    calls = []

    def read():
        calls.append(1)
        raise Conflict("no")

    fact = Once(read)
    for _ in range(3):
        with pytest.raises(Conflict):
            fact.value()
    assert len(calls) == 1


def test_checks_are_chosen_by_name_or_group():
    assert [each.name for each in table.choose(["redis.version"], False)] == ["redis.version"]
    assert {each.group for each in table.choose(["redis", "python"], False)} == {"redis", "python"}
    assert {each.name for each in table.choose([], True)} > {each.name for each in table.choose([], False)}
    with pytest.raises(UsageError, match="there is no check nonsense"):
        table.choose(["nonsense"], False)


def test_each_check_has_a_name_of_its_own_a_text_and_an_exit_code_of_a_failure():
    checks = [*table.CHECKS, *table.DEPLOY_CHECKS]
    assert len({each.name for each in checks}) == len(checks)
    for each in checks:
        assert each.about.endswith("."), each.name
        assert each.kind is not ExitCode.OK
        assert each.seconds > 0


# --- Set-up ----------------------------------------------------------------------------------------------------------


def test_refused_settings_are_named(tmp_path):
    found = setup_checks.settings_valid(Subject(settings_in(tmp_path), {"api_port": "API_PORT: no number"}))
    assert is_bad(found, Level.ERROR, "API_PORT: no number")


def test_an_env_file_that_others_may_read_is_an_error(subject):
    found = subject()
    found.settings.env_file.touch()
    found.settings.env_file.chmod(0o640)
    finding = setup_checks.env_private(found)
    assert is_bad(finding, Level.ERROR, "mode 0640")
    subprocess.run(finding.fix.split(), check=True)
    assert setup_checks.env_private(found).level is Level.OK


def test_a_folder_of_secrets_that_others_may_enter_is_an_error(subject):
    found = subject()
    found.settings.profile_dir.mkdir(parents=True, mode=0o755)
    found.settings.home.chmod(0o711)
    finding = setup_checks.home_private(found)
    assert is_bad(finding, Level.ERROR, "profiles has mode 0755")
    subprocess.run(finding.fix.split(), check=True)
    assert setup_checks.home_private(found).level is Level.OK
    found.settings.home.chmod(0o777)
    assert is_bad(setup_checks.home_private(found), Level.ERROR, "others may write")


def test_an_old_python_is_an_error(subject, monkeypatch):
    assert setup_checks.python_version(subject()).level is Level.OK
    monkeypatch.setattr("bisnesctl.doctor.setup_checks.sys.version_info", (3, 9, 2))
    assert is_bad(setup_checks.python_version(subject()), Level.ERROR, "Python 3.9.2")


def test_packages_are_compared_with_their_ranges(subject, monkeypatch):
    assert setup_checks.packages(subject()).level is Level.OK
    required = ["flask<4,>=3.1", "nothing-of-this-name<2,>=1", 'boto3<2,>=1; extra == "s3"', "psutil<2,>=1"]
    monkeypatch.setattr("bisnesctl.doctor.setup_checks.metadata.requires", lambda _: required)
    finding = setup_checks.packages(subject())
    assert is_bad(finding, Level.ERROR, "nothing-of-this-name is missing")
    assert "psutil" in finding.found
    assert "flask" not in finding.found
    assert "boto3" not in finding.found


# --- PostgreSQL and Redis --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "facts", "level", "words"),
    [
        ("postgres_version", {"version": 110020, "version_text": "11.20"}, Level.ERROR, "11.20"),
        ("postgres_encoding", {"encoding": "SQL_ASCII"}, Level.ERROR, "SQL_ASCII"),
        ("postgres_writable", {"in_recovery": True}, Level.ERROR, "standby"),
        ("postgres_writable", {"read_only": True}, Level.ERROR, "read-only"),
        ("postgres_privileges", {"may_create": False}, Level.ERROR, "may not create tables"),
        ("postgres_privileges", {"may_create_temporary": False}, Level.WARNING, "temporary"),
        ("postgres_connections", {"max_connections": 100}, Level.WARNING, "97 of max_connections=100"),
        ("postgres_connections", {"max_connections": 20}, Level.ERROR, "17 of max_connections=20"),
        ("postgres_connections", {"other_connections": 990}, Level.ERROR, "990 of other programs"),
    ],
)
def test_an_unsuitable_postgresql_is_reported(subject, name, facts, level, words):
    examine = getattr(server_checks, name)
    assert examine(subject()).level is Level.OK
    assert is_bad(examine(subject(replace(FACTS, **facts))), level, words)


@pytest.mark.parametrize(
    ("name", "facts", "level", "words"),
    [
        ("redis_version", {"redis_version": "5.0.14"}, Level.ERROR, "5.0.14"),
        ("redis_answers", {"role": "slave"}, Level.ERROR, "replica"),
        ("redis_answers", {"loading": 1}, Level.ERROR, "loading"),
        ("redis_eviction", {"maxmemory": 1, "maxmemory_policy": "allkeys-lru"}, Level.WARNING, "allkeys-lru"),
        ("redis_memory", {"maxmemory": 1 << 20}, Level.WARNING, "1 MB of 1 MB"),
        ("redis_persistence", {"rdb_last_bgsave_status": "err"}, Level.ERROR, "refuses to write"),
    ],
)
def test_an_unsuitable_redis_is_reported(subject, name, facts, level, words):
    examine = getattr(server_checks, name)
    assert examine(subject()).level is Level.OK
    assert is_bad(examine(subject(redis=facts)), level, words)


def test_servers_that_are_away_are_reported_once(tmp_path):
    away = Subject(
        settings_in(tmp_path, DATABASE_URL="postgresql://u:secret@127.0.0.1:1/x", REDIS_URL="redis://127.0.0.1:1")
    )
    results = runner.run(table.choose(["postgresql", "redis"], False), away)
    bad = {each.check.name: each.finding for each in results if each.finding.level is Level.ERROR}
    assert set(bad) == {"postgresql.answers", "redis.answers"}
    assert runner.exit_code(results) is ExitCode.UNAVAILABLE
    assert "secret" not in str(results)


def test_embedded_servers_that_do_not_run_are_no_error(tmp_path):
    results = runner.run(table.choose(["postgresql", "redis"], False), Subject(settings_in(tmp_path)))
    assert {each.finding.level for each in results} == {Level.OK, Level.SKIPPED}


# --- WhatsApp Web ----------------------------------------------------------------------------------------------------


def program(folder, name, version):
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{name} {version}'\n")
    path.chmod(0o755)
    return path


def test_a_driver_of_another_version_is_an_error(subject, tmp_path):
    chrome = program(tmp_path, "chrome", "156.0.1.2")
    fitting, other = program(tmp_path, "one", "156.0.9.9"), program(tmp_path, "other", "151.0.1.2")
    assert browser_checks.driver(subject(CHROME_PATH=chrome, CHROMEDRIVER_PATH=fitting)).level is Level.OK
    finding = browser_checks.driver(subject(CHROME_PATH=chrome, CHROMEDRIVER_PATH=other))
    assert is_bad(finding, Level.ERROR, "ChromeDriver 151.0.1.2 does not match Chromium 156.0.1.2")


def test_a_missing_or_broken_chromium_is_reported(subject, tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'libnss3.so: not found' >&2\nexit 127\n")
    broken.chmod(0o755)
    assert is_bad(browser_checks.chromium(subject(CHROME_PATH=broken)), Level.WARNING, "libnss3.so: not found")
    assert is_bad(browser_checks.chromium(subject(CHROME_PATH="/nowhere")), Level.WARNING, "/nowhere is no program")


def test_wa_js_that_is_missing_or_another_one_is_reported(subject, tmp_path, monkeypatch):
    own = tmp_path / "own.js"
    own.write_text("")
    assert is_bad(browser_checks.wa_js(subject(WA_JS_PATH=own)), Level.WARNING, "is not checked")
    monkeypatch.setattr("bisnesctl.doctor.browser_checks.wajs.pinned_path", lambda: tmp_path / "missing.js")
    assert is_bad(browser_checks.wa_js(subject()), Level.ERROR, "is missing")


def test_a_kernel_without_landlock_is_a_warning(subject, monkeypatch):
    monkeypatch.setattr(confine, "version", lambda: 0)
    assert is_bad(browser_checks.landlock(subject()), Level.WARNING, "no Landlock")


def test_chromium_without_a_sandbox_is_reported(subject, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert is_bad(browser_checks.sandbox(subject()), Level.WARNING, "root")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setattr(browser_checks, "_SANDBOX_PROGRAMS", (str(tmp_path / "chrome-sandbox"),))
    monkeypatch.setattr("bisnesctl.doctor.browser_checks.shutil.which", lambda _: str(refusing))
    assert is_bad(browser_checks.sandbox(subject()), Level.ERROR, "may not make user namespaces")
    helper = tmp_path / "chrome-sandbox"
    helper.touch()
    helper.chmod(stat.S_ISUID | 0o755)
    assert browser_checks.sandbox(subject()).level is Level.OK


def test_shared_memory_that_is_missing_or_full_is_a_warning(subject, monkeypatch, tmp_path):
    monkeypatch.setattr(browser_checks, "SHARED_MEMORY", tmp_path / "none")
    assert is_bad(browser_checks.shared_memory(subject()), Level.WARNING, "cannot be written")
    monkeypatch.setattr(browser_checks, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(browser_checks, "SHARED_MEMORY_BYTES", 1 << 60)
    assert is_bad(browser_checks.shared_memory(subject()), Level.WARNING, "are free")


# --- The machine -----------------------------------------------------------------------------------------------------


def test_limits_beyond_the_memory_of_the_machine_are_a_warning(subject):
    promised = subject(WWEBJS_MEMORY_MB=10_000_000, MAX_SESSIONS=1000, SESSION_MEMORY_MB=100_000)
    assert is_bad(machine_checks.memory(promised), Level.WARNING, "1000 times")


def test_low_limits_of_files_and_processes_are_warnings(subject, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (512, 1024))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert is_bad(machine_checks.open_files(subject()), Level.WARNING, "1024 files")
    assert is_bad(machine_checks.processes(subject()), Level.WARNING, "512")


def test_full_disks_are_reported(subject, monkeypatch):
    assert machine_checks.disks(subject(DISK_WARNING_MB=0, DISK_CRITICAL_MB=0)).level is Level.OK
    monkeypatch.setattr(volumes, "WARNING_PERCENT", 101)
    assert is_bad(machine_checks.disks(subject(DISK_WARNING_MB=10**9)), Level.WARNING, "free of")
    monkeypatch.setattr(volumes, "CRITICAL_PERCENT", 101)
    assert is_bad(machine_checks.disks(subject(DISK_CRITICAL_MB=10**9)), Level.ERROR, "free of")


def test_a_port_in_use_is_an_error(subject):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        results = runner.run(table.choose(["machine.ports"], False), subject(API_PORT=port))
    assert results[0].finding.level is Level.ERROR
    assert f"port {port} of api is in use" in results[0].finding.found
    assert runner.exit_code(results) is ExitCode.CONFLICT


def test_a_missing_setpriv_is_an_error(subject, monkeypatch):
    monkeypatch.setattr("bisnesctl.doctor.machine_checks.shutil.which", lambda *_, **__: None)
    assert is_bad(machine_checks.util_linux(subject()), Level.ERROR, "setpriv is missing")


def test_the_start_at_boot_is_found(subject, monkeypatch, tmp_path):
    found = subject()
    monkeypatch.setattr(machine_checks, "SYSTEM_UNITS", tmp_path / "units")
    monkeypatch.setattr(machine_checks, "SYSTEM_CRONTABS", (tmp_path / "crontab",))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert is_bad(machine_checks.boot(found), Level.WARNING, "neither systemd nor cron")
    unit = tmp_path / "units" / "bots.service"
    (unit.parent / "multi-user.target.wants").mkdir(parents=True)
    unit.write_text(f"[Service]\nWorkingDirectory={found.settings.env_file.parent}\nExecStart=bisnesctl start\n")
    assert is_bad(machine_checks.boot(found), Level.WARNING, "is not enabled")
    (unit.parent / "multi-user.target.wants" / unit.name).symlink_to(unit)
    assert machine_checks.boot(found).found == "systemd: bots.service"
    unit.unlink()
    line = f"@reboot bisnes cd {found.settings.env_file.parent} && bisnesctl start --multiprocess\n"
    (tmp_path / "crontab").write_text(f"# {line}")
    assert machine_checks.boot(found).level is Level.WARNING
    (tmp_path / "crontab").write_text(line)
    assert machine_checks.boot(found).found == "cron: @reboot"


def test_a_deploy_wants_a_running_deployment(subject):
    assert is_bad(machine_checks.running_health(subject()), Level.WARNING, "nothing runs here")


# --- The network -----------------------------------------------------------------------------------------------------


def test_unknown_names_and_silent_providers_are_reported(subject, monkeypatch):
    def unknown(host, *_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    with socket.create_server(("127.0.0.1", 0)) as server:
        here = f"http://127.0.0.1:{server.getsockname()[1]}"
        local = subject(META_GRAPH_URL=here, DIALOG360_URL=here, WA_URL=here)
        assert network_checks.providers(local).level is Level.OK
    assert is_bad(network_checks.providers(local), Level.WARNING, "Connection refused")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert is_bad(network_checks.host_names(subject()), Level.ERROR, "graph.facebook.com: Name or service not known")


@pytest.mark.parametrize(
    ("url", "level", "words"),
    [
        ("", Level.WARNING, "PUBLIC_URL is empty"),
        ("http://bots.example.com", Level.ERROR, "is not https"),
        ("https://127.0.0.1", Level.WARNING, "not on the internet"),
    ],
)
def test_a_public_address_that_providers_cannot_use_is_reported(subject, url, level, words):
    assert is_bad(network_checks.public_address(subject(PUBLIC_URL=url)), level, words)


def test_the_certificate_of_the_public_address_is_checked(subject, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "bisnesctl.doctor.network_checks.ipaddress.ip_address", lambda _: SimpleNamespace(is_global=True)
    )
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 3 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    with served(key, certificate) as port:
        public = subject(PUBLIC_URL=f"https://127.0.0.1:{port}")
        assert is_bad(network_checks.public_address(public), Level.ERROR, "self-signed certificate")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert is_bad(network_checks.public_address(public), Level.WARNING, "ends in 2 days")
        monkeypatch.setattr(network_checks, "CERTIFICATE_DAYS", 1)
        assert network_checks.public_address(public).level is Level.OK
    assert is_bad(network_checks.public_address(public), Level.ERROR, "Connection refused")


def served(key: Path, certificate: Path):
    """A server that speaks TLS and nothing else; gives its port."""
    import contextlib
    import ssl
    import threading

    @contextlib.contextmanager
    def serve():
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        with socket.create_server(("127.0.0.1", 0)) as server:

            def accept():
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = server.accept()
                        with contextlib.suppress(OSError), tls.wrap_socket(connection, server_side=True):
                            pass

            threading.Thread(target=accept, daemon=True).start()
            yield server.getsockname()[1]
            server.shutdown(socket.SHUT_RDWR)

    return serve()
