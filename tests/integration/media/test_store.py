"""Both media stores keep the same promises: a folder, and S3 as a real server of its protocol speaks it."""

import contextlib
import hashlib
import io
import os
import sys
import threading
import time

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from bisnesctl.errors import ConfigError
from services.media.base import checked, folder_of
from services.media.store import MediaMissing, MediaTooLarge, MediaUnavailable, media_store
from tests.support.processes.servers import settings_in

LIMIT = 1 << 20
JPEG = b"\xff\xd8\xff\xe0" + os.urandom(600_000)


@pytest.fixture(scope="module")
def s3_server():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
    )
    client.create_bucket(Bucket="files")
    yield url
    server.stop()


def s3_settings(folder, url, place="files/of/bisnes"):
    return settings_in(
        folder, MEDIA_STORE=f"s3://{place}", S3_ENDPOINT_URL=url, S3_ACCESS_KEY_ID="key", S3_SECRET_ACCESS_KEY="secret"
    )


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path):
    if request.param == "folder":
        return media_store(settings_in(tmp_path))
    return media_store(s3_settings(tmp_path, request.getfixturevalue("s3_server")))


def put(store, data, mime_type="image/jpeg", company="0128", limit=LIMIT):
    return store.put(company, io.BytesIO(data), mime_type, limit)


def read(store, key):
    with store.open(key) as file:
        return file.read()


def test_a_stored_file_is_read_back_unchanged(store):
    stored = put(store, JPEG)
    assert (stored.size, stored.sha256) == (len(JPEG), hashlib.sha256(JPEG).hexdigest())
    assert stored.key.startswith("0128/")
    assert stored.key.endswith(f"/{stored.sha256}.jpg")
    assert read(store, stored.key) == JPEG
    with store.local_path(stored.key) as path:
        assert path.read_bytes() == JPEG


def test_any_part_may_be_read(store):
    with store.open(put(store, JPEG).key) as file:
        assert file.seek(0, io.SEEK_END) == len(JPEG)
        assert file.read() == b""
        file.seek(500_000)
        assert file.read(10) == JPEG[500_000:500_010]
        file.seek(5)
        assert file.read(300_000) == JPEG[5:300_005]
        assert file.seek(-5, io.SEEK_CUR) == 300_000
        assert file.read() == JPEG[300_000:]


def test_the_same_file_of_a_company_is_kept_once_and_each_company_has_its_own(store):
    assert put(store, b"same") == put(store, b"same")
    assert put(store, b"same").key != put(store, b"same", company="0999").key


def test_an_empty_file_is_a_file(store):
    assert read(store, put(store, b"").key) == b""


def test_a_file_that_is_too_large_is_not_kept(store):
    assert put(store, b"12345", limit=5).size == 5
    with pytest.raises(MediaTooLarge) as refused:
        put(store, b"123456", limit=5)
    assert refused.value.limit == 5
    key = put(store, b"x").key.replace(hashlib.sha256(b"x").hexdigest(), hashlib.sha256(b"123456").hexdigest())
    with pytest.raises(MediaMissing):
        store.open(key)


def test_a_stream_that_breaks_leaves_nothing_behind(store, tmp_path):
    class Broken(io.RawIOBase):
        def read(self, size=-1):
            raise ConnectionError("the caller disconnected")

    with pytest.raises(ConnectionError):
        store.put("0128", Broken(), "image/jpeg", LIMIT)
    assert not [path for path in (tmp_path / "var").rglob("*") if path.is_file()]


def test_a_deleted_file_is_gone_and_may_be_deleted_again(store):
    key = put(store, b"short lived").key
    store.delete(key)
    store.delete(key)
    with pytest.raises(MediaMissing):
        store.open(key)
    with pytest.raises(MediaMissing), store.local_path(key):
        pass


@pytest.mark.parametrize("key", [
    "", ".", "../0128/2026-11/x.jpg", "/etc/passwd", "0128", "0128/2026-11/../../.env",
    f"0128/2026-11/{'a' * 64}.jpg/..", f"../2026-11/{'a' * 64}.jpg", f"0128/2026-11/{'a' * 64}.jpg\n", "\0",
])  # fmt: skip
def test_no_key_leads_elsewhere(store, key):
    with pytest.raises(MediaMissing):
        store.open(key)
    with pytest.raises(MediaMissing), store.local_path(key):
        pass
    store.delete(key)


def test_many_threads_put_and_read_at_once(store):
    wrong = []

    def work(number):
        data = f"file {number % 4}".encode() * 1000
        if read(store, put(store, data).key) != data:
            wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_folder_is_closed_to_others(tmp_path):
    settings = settings_in(tmp_path)
    put(media_store(settings), JPEG)
    paths = [settings.home / "media", *(settings.home / "media").rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in paths if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in paths if path.is_file()} == {0o600}


def test_the_folder_may_be_elsewhere(tmp_path):
    store = media_store(settings_in(tmp_path, MEDIA_STORE="my files"))
    assert (tmp_path / "my files" / put(store, JPEG).key).read_bytes() == JPEG


def test_abandoned_incomplete_files_are_removed_and_new_ones_stay(tmp_path):
    left, fresh = tmp_path / "files" / "incoming-old", tmp_path / "files" / "incoming-new"
    left.parent.mkdir()
    left.write_bytes(b"half")
    fresh.write_bytes(b"half")
    os.utime(left, (time.time() - 2 * 86400,) * 2)
    put(media_store(settings_in(tmp_path, MEDIA_STORE="files")), JPEG)
    assert not left.exists()
    assert fresh.exists()


def test_a_disk_that_refuses_is_reported_as_unavailable_media(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(MediaUnavailable, match="file"):
        put(media_store(settings_in(tmp_path, MEDIA_STORE="file/below")), JPEG)


def test_an_unavailable_storage_or_a_missing_bucket_is_reported(tmp_path, s3_server):
    for settings in (s3_settings(tmp_path, "http://127.0.0.1:1"), s3_settings(tmp_path, s3_server, "nowhere")):
        store = media_store(settings)
        with pytest.raises(MediaUnavailable):
            put(store, JPEG)
    with pytest.raises(MediaUnavailable):
        media_store(s3_settings(tmp_path, "http://127.0.0.1:1")).open(f"0128/2026-11/{'a' * 64}.jpg")


def test_objects_lie_below_the_prefix_with_their_type(tmp_path, s3_server):
    stored = put(media_store(s3_settings(tmp_path, s3_server)), b"%PDF-1.7", "application/pdf")
    client = boto3.client(
        "s3", endpoint_url=s3_server, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    )
    found = client.head_object(Bucket="files", Key=f"of/bisnes/{stored.key}")
    assert found["ContentType"] == "application/pdf"


def test_an_s3_storage_without_its_extra_or_bucket_names_the_next_step(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="s3://bucket/prefix"):
        media_store(s3_settings(tmp_path, "http://127.0.0.1:1", "/prefix"))
    monkeypatch.delitem(sys.modules, "services.media.s3")
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigError, match=r"bisnesctl\[s3\]"):
        media_store(s3_settings(tmp_path, "http://127.0.0.1:1"))


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_every_company_has_a_folder_of_its_own(one, other):
    key = f"{folder_of(one)}/2026-11/{'a' * 64}.jpg"
    assert checked(key) == key
    assert (folder_of(one) == folder_of(other)) == (one == other)


@given(st.text())
def test_only_what_a_store_could_have_made_is_a_key(text):
    with contextlib.suppress(MediaMissing):
        assert ".." not in checked(text)
