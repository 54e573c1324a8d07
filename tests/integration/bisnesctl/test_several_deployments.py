"""Deployments that share a database: two with the same names do not run side by side, and all have one media store."""

import contextlib
import io
import os
import threading

import psycopg2
import pytest

from bisnesctl.database import deployments, media_store
from bisnesctl.errors import ConfigError, Conflict
from bisnesctl.lifecycle import start
from services.database.connection import Database
from services.media.base import MediaMissing, MediaUnavailable
from services.media.folder import FolderStore
from services.runtime.heartbeat import Counters, Heartbeat
from tests.support.api import settings_for
from tests.support.outbox import entry, execute
from tests.support.outbox_worker import Stage
from tests.support.processes.servers import settings_in
from tests.support.waiting import HANG_SECONDS, wait_until

ROWS = "SELECT messages_processed FROM process_instances"


@pytest.fixture
def connection(database):
    with contextlib.closing(psycopg2.connect(database)) as connection:
        connection.autocommit = True
        yield connection


@pytest.fixture
def homes(database, tmp_path):
    """The settings of two deployments on one database."""
    return [settings_at(tmp_path / name, database) for name in ("one", "two")]


def settings_at(folder, dsn, **variables):
    folder.mkdir(exist_ok=True)
    return settings_for(dsn, folder, HEARTBEAT_INTERVAL=100, MAX_HEARTBEAT_AGE=60_000, **variables)


@contextlib.contextmanager
def beating(settings, processed=0):
    """A worker of the deployment that beats."""
    with contextlib.closing(Database(settings.database_dsn)) as database:
        heart = Heartbeat(settings, database, "meta", "meta-worker-1", os.getpid(), Counters(processed=processed))
        heart.beat()
        heart.start()
        try:
            yield heart
        finally:
            heart.stop()


def reason_of(settings):
    return str((settings.heartbeat_dir / "meta-worker-1.json").read_text())


def test_the_heartbeat_of_one_deployment_is_neither_overwritten_nor_removed_by_another_one(homes, connection):
    one, two = homes
    with beating(one, processed=5):
        with beating(two, processed=7):
            assert "another deployment" in reason_of(two)
            assert execute(connection, ROWS) == [(5,)]
        assert execute(connection, ROWS) == [(5,)]
        together = "SELECT messages_processed, status FROM process_health WHERE process_name = 'meta'"
        assert execute(connection, together) == [(5, "healthy")]
    assert execute(connection, ROWS) == []


def test_the_heartbeat_of_a_deployment_that_is_gone_is_replaced(homes, connection):
    with beating(homes[0], processed=5):
        pass
    execute(
        connection,
        "INSERT INTO process_instances (process_name, host, instance, pid, status, started_at, last_heartbeat,"
        " deployment) VALUES ('meta', %s, 'meta-worker-1', 1, 'healthy', now(), now() - interval '1 hour', 'x/1/y')",
        (os.uname().nodename,),
    )
    with beating(homes[1], processed=7):
        assert execute(connection, ROWS) == [(7,)]


def test_a_start_beside_a_living_deployment_of_the_same_names_is_refused(homes, connection):
    one, two = homes
    with beating(one), pytest.raises(Conflict, match=f"host name.*{one.home}.*stop it, or"):
        deployments.wait_until_alone(connection, two, print)
    deployments.wait_until_alone(connection, two, print)


def test_a_start_waits_for_the_heartbeats_from_before_a_reboot_to_age(homes, connection, tmp_path):
    here = settings_at(tmp_path / "one", homes[0].database_dsn).copy_with(max_heartbeat_age=1500)
    execute(
        connection,
        "INSERT INTO process_instances (process_name, host, instance, pid, status, started_at, deployment)"
        " VALUES ('meta', %s, 'meta-worker-1', 1, 'healthy', now(), %s)",
        (os.uname().nodename, f"an-earlier-boot/1{here.home}"),
    )
    said = []
    deployments.wait_until_alone(connection, here, said.append)
    assert len(said) == 1
    assert deployments.conflict(connection, here) is None


def test_a_deployment_of_this_machine_whose_processes_are_gone_is_no_conflict(homes, connection):
    one, two = homes
    execute(
        connection,
        "INSERT INTO process_instances (process_name, host, instance, pid, status, started_at, deployment)"
        " VALUES ('meta', %s, 'meta-worker-1', %s, 'healthy', now(), %s)",
        (os.uname().nodename, 2**22 - 1, deployments.identity(one)),
    )
    assert deployments.conflict(connection, two) is None


def test_a_worker_beside_another_deployment_of_its_names_sends_nothing_and_takes_over_nothing(
    homes, database, tmp_path, monkeypatch
):
    stage = Stage(database, tmp_path / "three", monkeypatch)
    with contextlib.closing(stage):
        reasons = []
        with beating(homes[0]):
            stage.accept(entry(stage.bot()))
            stage.sender_that_waits(reasons.append)
            wait_until(lambda: reasons)
            assert "another deployment" in reasons[0]
            assert stage.statuses() == {"queued": 1}
        stage.wait_for(lambda: stage.statuses() == {"sent": 1})


# One media store


def test_the_first_store_is_the_databases_and_another_one_is_refused_until_it_is_adopted(homes, connection):
    one, two = homes
    media_store.check(connection, one)
    media_store.check(connection, one)
    with pytest.raises(ConfigError, match=rf"MEDIA_STORE \(.*{two.media_dir}\).*{one.media_dir}.*--adopt-media-store"):
        media_store.check(connection, two)
    media_store.check(connection, two, adopt=True)
    media_store.check(connection, two)
    with pytest.raises(ConfigError):
        media_store.check(connection, one)


def test_a_folder_that_two_machines_share_is_one_store(homes, connection, tmp_path):
    for number, settings in enumerate(homes):
        shared = settings.copy_with(media_store=str(tmp_path / "shared"), bisnes_home=tmp_path / str(number))
        media_store.check(connection, shared)


def test_machines_with_the_same_s3_address_have_one_store(database, connection, tmp_path):
    def s3(name, place):
        (tmp_path / name).mkdir()
        return settings_in(tmp_path / name, DATABASE_URL=database, MEDIA_STORE=place, S3_ENDPOINT_URL="http://s3.test")

    media_store.check(connection, s3("a", "s3://files/x"))
    media_store.check(connection, s3("b", "s3://files/x"))
    with pytest.raises(ConfigError, match=r"s3://files/y.*s3://files/x"):
        media_store.check(connection, s3("c", "s3://files/y"))


def test_the_preflight_of_a_machine_with_another_store_names_the_setting(homes, connection):
    start.check_machine(homes[0], print, adopt_media_store=False)
    with pytest.raises(ConfigError, match="MEDIA_STORE"):
        start.check_machine(homes[1], print, adopt_media_store=False)
    start.check_machine(homes[1], print, adopt_media_store=True)


def test_a_worker_with_another_store_waits_and_sends_once_its_store_is_the_databases(
    homes, database, connection, tmp_path, monkeypatch
):
    media_store.check(connection, homes[0])
    stage = Stage(database, tmp_path / "three", monkeypatch)
    with contextlib.closing(stage):
        reasons = []
        stage.accept(entry(stage.bot()))
        stage.sender_that_waits(reasons.append)
        wait_until(lambda: reasons)
        assert "MEDIA_STORE" in reasons[0]
        assert stage.statuses() == {"queued": 1}
        media_store.check(connection, stage.settings, adopt=True)
        stage.wait_for(lambda: stage.statuses() == {"sent": 1})


def test_a_file_that_is_missing_in_a_folder_that_is_not_mounted_is_not_missing_for_good(homes, connection):
    settings = homes[0]
    store = FolderStore(settings.media_dir)
    media_store.check(connection, settings)
    key = store.put("0128", io.BytesIO(b"x"), "image/jpeg", 10).key
    settings.media_dir.rename(settings.media_dir.with_name("unmounted"))
    with pytest.raises(MediaUnavailable, match="not mounted"):
        store.open(key)
    with pytest.raises(MediaUnavailable, match="not mounted"):
        store.put("0128", io.BytesIO(b"y"), "image/jpeg", 10)
    settings.media_dir.with_name("unmounted").rename(settings.media_dir)
    store.open(key).close()
    store.delete(key)
    with pytest.raises(MediaMissing):
        store.open(key)


def test_two_machines_that_begin_at_once_agree_on_one_store(homes, database):
    barrier, refused = threading.Barrier(2), []

    def begin(settings):
        with contextlib.closing(psycopg2.connect(database)) as connection:
            connection.autocommit = True
            barrier.wait(HANG_SECONDS)
            try:
                media_store.check(connection, settings)
            except ConfigError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=begin, args=(each,)) for each in homes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_SECONDS)
    assert len(refused) == 1
