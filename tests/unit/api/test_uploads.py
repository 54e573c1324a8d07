"""Files as requests give them: the form of links, what is in a data URL, names, and what a kind of message takes."""

import base64
import io
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.messages import uploads
from services.api.messages.uploads import Upload
from services.http_server.errors import ApiError
from services.media.folder import FolderStore
from tests.support.file_beginnings import GIF, JPEG, OGG, PDF, PNG, WEBP, WEBP_MOVING


def refused(call, *arguments):
    with pytest.raises(ApiError) as raised:
        call(*arguments)
    assert raised.value.message
    return raised.value.status, raised.value.code


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("https://example.com/a.jpg?x=1&y=%20#z", "https://example.com/a.jpg?x=1&y=%20#z"),
        (" http://127.0.0.1:8080/a ", "http://127.0.0.1:8080/a"),
        ("https://[2001:db8::1]/a", "https://[2001:db8::1]/a"),
        ("https://example.com/foto ünd.jpg", "https://example.com/foto%20%C3%BCnd.jpg"),
        ("https://xn--bcher-kva.example/a", "https://xn--bcher-kva.example/a"),
    ],
)
def test_a_link_is_taken_as_it_is_in_ascii(value, expected):
    assert uploads.link("imageUrl", value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "ftp://example.com/a", "file:///etc/passwd", "//example.com/a", "example.com/a.jpg", "https://", "https:///a",
        "https://user:secret@example.com/a", "https://user@example.com/a", "https://example.com:port/a",
        "https://example.com:99999/a", "https://[::1/a", "https://bücher.example/a", "https://exa mple.com/a",
        "https://example.com/a\r\nX: y", "https://example.com/\0", "javascript:alert(1)", f"https://a/{'x' * 4096}",
    ],
)  # fmt: skip
def test_an_invalid_link_is_refused(value):
    assert refused(uploads.link, "imageUrl", value) == (400, "invalid_request")


@given(st.text(max_size=60) | st.text(max_size=40).map("https://example.com/{}".format) | st.text(max_size=20).map(
    "http://{}".format))  # fmt: skip
def test_any_text_is_a_clean_link_or_a_clear_refusal(value):
    try:
        found = uploads.link("imageUrl", value)
    except ApiError as error:
        assert (error.status, error.code) == (400, "invalid_request")
    else:
        assert found.isascii()
        assert found.isprintable()
        assert " " not in found
        assert urlsplit(found).scheme in ("http", "https")
        assert urlsplit(found).hostname
        assert uploads.link("imageUrl", found) == found


@given(st.binary(max_size=3000), st.sampled_from(["image/png", "", "text/plain;charset=utf-8", "IMAGE/JPEG"]))
def test_a_data_url_gives_back_its_bytes_and_type(content, mime_type):
    upload = uploads.data_url("imageUrl", f"data:{mime_type};base64,{base64.b64encode(content).decode()}")
    upload.stream.seek(0)
    assert upload.stream.read() == content
    assert upload.declared.startswith(mime_type)


@given(st.binary(max_size=300))
def test_a_data_url_may_hold_base64_as_any_encoder_writes_it(content):
    plain = base64.b64encode(content).decode()
    forms = (
        base64.encodebytes(content).decode(),  # MIME: lines of 76 characters
        plain.replace("/", "%2F").replace("+", "%2B").replace("=", "%3D"),
        base64.urlsafe_b64encode(content).decode().rstrip("="),
        f"{plain}\r\n",
    )
    for form in forms:
        upload = uploads.data_url("imageUrl", f"data:image/png;base64,{form}")
        upload.stream.seek(0)
        assert upload.stream.read() == content


def test_a_data_url_may_be_percent_encoded():
    upload = uploads.data_url("documentUrl", "data:text/plain,Hello%2C%20you")
    upload.stream.seek(0)
    assert upload.stream.read() == b"Hello, you"


@given(st.text(max_size=100).map("data:{}".format))
def test_any_data_url_is_a_file_or_a_clear_refusal(value):
    try:
        uploads.data_url("imageUrl", value)
    except ApiError as error:
        assert (error.status, error.code) == (400, "invalid_request")


@pytest.mark.parametrize("value", ["data:image/png", "data:image/png;base64,!!!", "data:;base64,Q", "data:;base64,ü"])
def test_a_broken_data_url_is_refused(value):
    assert refused(uploads.data_url, "imageUrl", value) == (400, "invalid_request")


def keep(tmp_path, kind, content, declared=None, name=None):
    return Upload(io.BytesIO(content), declared, name).store(FolderStore(tmp_path / "media").put, "0128", kind)


@pytest.mark.parametrize(
    ("kind", "content", "declared", "name", "expected"),
    [
        ("image", PNG, "image/png", None, "image/png"),
        ("image", JPEG, "image/png", None, "image/jpeg"),
        ("image", PNG, None, None, "image/png"),
        ("voice", OGG, "audio/ogg; codecs=opus", None, "audio/ogg"),
        ("document", PDF, "application/octet-stream", None, "application/pdf"),
        ("document", b"a,b\n", None, "table.csv", "text/csv"),
        ("document", b"anything", None, None, "application/octet-stream"),
        ("sticker", WEBP, "image/webp", None, "image/webp"),
        ("sticker", WEBP_MOVING + bytes(200_000), "image/webp", None, "image/webp"),
    ],
)
def test_a_file_is_stored_under_its_real_type(tmp_path, kind, content, declared, name, expected):
    media = keep(tmp_path, kind, content, declared, name)
    assert media["mimeType"] == expected
    assert media["size"] == len(content)
    assert media.get("filename") == name
    with FolderStore(tmp_path / "media").open(media["key"]) as kept:
        assert kept.read() == content


@pytest.mark.parametrize(
    ("kind", "content", "declared", "expected"),
    [
        ("image", GIF, "image/gif", (415, "unsupported_media")),
        ("image", b"<html>", "image/png", (415, "unsupported_media")),
        ("image", b"", "image/png", (415, "unsupported_media")),
        ("document", b"MZ\x90", "application/pdf", (415, "unsupported_media")),
        ("image", PNG + bytes(5 << 20), "image/png", (413, "media_too_large")),
        ("sticker", WEBP + bytes(200_000), "image/webp", (413, "media_too_large")),
        ("voice", b"ID3" + bytes(100), "audio/mpeg", (415, "unsupported_media")),
    ],
)
def test_a_file_that_its_kind_does_not_allow_is_refused_and_not_stored(tmp_path, kind, content, declared, expected):
    assert refused(keep, tmp_path, kind, content, declared) == expected
    assert not list((tmp_path / "media").rglob("*.*"))
