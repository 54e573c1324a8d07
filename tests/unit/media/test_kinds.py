"""The files that each kind of message accepts, and file types by their first bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.media.kinds import (
    HEAD,
    KB,
    KINDS,
    MB,
    UNKNOWN,
    MediaRefused,
    check,
    extension,
    is_animated,
    normalise,
    sniff,
    true_type,
)

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ODT = b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/vnd.oasis.opendocument.textPK\x03\x04"
OPUS = b"OggS\x00\x02" + bytes(20) + b"\x01\x13OpusHead\x01\x01"
VORBIS = b"OggS\x00\x02" + bytes(20) + b"\x01\x1e\x01vorbis"
MP4 = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41"
ZIP = b"PK\x03\x04\x14\x00\x06\x00"
STILL = b"RIFF\x24\x00\x00\x00WEBPVP8L" + bytes(8)
MOVING = b"RIFF\x24\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02" + bytes(8)


@pytest.mark.parametrize(("head", "mime_type"), [
    (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg"), (b"\x89PNG\r\n\x1a\n\x00", "image/png"),
    (b"GIF89a\x01\x00", "image/gif"), (STILL, "image/webp"), (MP4, "video/mp4"),
    (b"\x00\x00\x00\x18ftyp3gp5\x00\x00\x01\x00", "video/3gpp"), (b"\x00\x00\x00\x14ftypqt  ", "video/quicktime"),
    (b"\x00\x00\x00\x20ftypM4A \x00\x00\x02\x00", "audio/mp4"), (b"\x00\x00\x00\x18ftypheic", "image/heic"),
    (OPUS, "audio/ogg"), (VORBIS, "video/ogg"), (b"ID3\x04\x00", "audio/mpeg"), (b"\xff\xfb\x90\x64", "audio/mpeg"),
    (b"\xff\xf3\x40\xc4", "audio/mpeg"), (b"\xff\xf1\x50\x80", "audio/aac"), (b"\xff\xf9\x50\x80", "audio/aac"),
    (b"#!AMR\n\x3c", "audio/amr"), (b"RIFF\x24\x00\x00\x00WAVEfmt ", "audio/wav"), (b"%PDF-1.7\n", "application/pdf"),
    (ZIP, "application/zip"), (b"PK\x05\x06" + bytes(18), "application/zip"), (b"PK\x07\x08", "application/zip"),
    (b"PK00PK\x03\x04", "application/zip"), (ZIP + b"[Content_Types].xml" + bytes(900) + b"word/document.xml", DOCX),
    (ZIP + b"_rels/.rels" + bytes(50) + b"xl/workbook.xml", XLSX), (ODT, "application/vnd.oasis.opendocument.text"),
    (b"\x00\x00\x00\x08wide\x00\x12\x34\x56mdat", "video/quicktime"), (b"\x00\x00\x10\x00moov", "video/quicktime"),
    (b"\x00\x00\x00\x10free" + bytes(8) + MP4, "video/mp4"), (b"\x00\x00\x00\x08wide" + MP4, "video/mp4"),
    (b"\x00\x00\x00\x00free", None), (b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1avif", "image/avif"),
    (b"\x00\x00\x00\x1cftyphevc", "image/heic"), (b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1heic", "image/heic"),
    (b"OggS\x00\x02" + bytes(22) + b"fishead\x00" + bytes(70) + OPUS, "audio/ogg"), (b"RF64....WAVE", "audio/wav"),
    (b"\xef\xbb\xbf%PDF-1.4", "application/pdf"), (b"\r\n\n%PDF-1.4", "application/pdf"),
    (bytes(200) + b"\xff\xfb\x90\x64", "audio/mpeg"), (bytes(10) + b"ID3\x04\x00", "audio/mpeg"),
    (b"\n\n\x89PNG\r\n\x1a\n", None), (bytes(HEAD), None), (b"  {}", None),
    (b"<html>", None), (b"", None), (b"\xff", None), (b"RIFF", None), (b"\xff\xfe", None),
])  # fmt: skip
def test_a_file_is_known_by_its_first_bytes(head, mime_type):
    assert sniff(head) == mime_type


@pytest.mark.parametrize(("head", "declared", "mime_type"), [
    (b"\x89PNG\r\n\x1a\n", "image/jpeg", "image/png"),
    (b"\x89PNG\r\n\x1a\n", None, "image/png"),
    (b"<svg onload=alert(1)>", "image/png", UNKNOWN),
    (b"<html>", "application/pdf", UNKNOWN),
    (b"junk\x01 of a mail gateway\r\n%PDF-1.4", "application/pdf", "application/pdf"),
    (b"x" * 1024 + b"%PDF-1.4", "application/pdf", "application/pdf"),
    (b"x" * 1025 + b"%PDF-1.4", "application/pdf", UNKNOWN),
    (b"x" * 100 + b"%PDF-1.4", None, "application/pdf"),
    (b"%!PS-Adobe-3.0 PDF-1.4\n", "application/pdf", "application/pdf"),
    (b"A PDF begins with %PDF-1.4", "text/plain", "text/plain"),
    (b"\x00\x00\x00\x08wide\x00\x12\x34\x56mdat", "video/quicktime", "video/quicktime"),
    (ZIP + b"[Content_Types].xml" + bytes(50) + b"word/document.xml", None, DOCX),
    (b"a,b\n", "text/csv; charset=utf-8", "text/csv"),
    (b"a,b\n", None, UNKNOWN),
    (ZIP, DOCX, DOCX),
    (ZIP, "image/jpeg", "application/zip"),
    (ZIP, "no type", "application/zip"),
    (MP4, "audio/mp4", "audio/mp4"),
    (MP4, "audio/x-m4a", "audio/mp4"),
    (MP4, "image/png", "video/mp4"),
    (OPUS, "audio/ogg; codecs=opus", "audio/ogg"),
    (OPUS, "audio/opus", "audio/ogg"),
    (b"ID3\x04", "audio/aac", "audio/aac"),
])  # fmt: skip
def test_the_bytes_decide_the_type_before_the_declared_one(head, declared, mime_type):
    assert true_type(head, declared) == mime_type


@pytest.mark.parametrize(("written", "meant"), [
    ("Image/JPG", "image/jpeg"), ("audio/mp3; x=y", "audio/mpeg"), (" video/mp4 ", "video/mp4"), ("", UNKNOWN),
    (None, UNKNOWN), ("image", UNKNOWN), ("image/jpeg\r\nX: y", UNKNOWN), ("text/html/x", UNKNOWN),
])  # fmt: skip
def test_a_type_has_one_name(written, meant):
    assert normalise(written) == meant


@pytest.mark.parametrize(("kind", "mime_type", "limit"), [
    ("image", "image/jpeg", 5 * MB), ("image", "image/png", 5 * MB), ("video", "video/mp4", 16 * MB),
    ("video", "video/3gpp", 16 * MB), ("audio", "audio/mpeg", 16 * MB), ("voice", "audio/ogg; codecs=opus", 16 * MB),
    ("document", "application/x-anything", 100 * MB), ("sticker", "image/webp", 500 * KB),
])  # fmt: skip
def test_each_kind_has_its_types_and_its_limit(kind, mime_type, limit):
    check(kind, mime_type, 1)
    check(kind, mime_type, limit)
    with pytest.raises(MediaRefused, match=str(limit + 1)) as refused:
        check(kind, mime_type, limit + 1)
    assert refused.value.code == "media_too_large"


@pytest.mark.parametrize(("kind", "mime_type"), [
    ("image", "image/webp"), ("image", "image/gif"), ("video", "video/quicktime"), ("audio", "video/ogg"),
    ("voice", "audio/mpeg"), ("sticker", "image/png"), ("image", ""),
])  # fmt: skip
def test_a_type_that_a_kind_does_not_take_is_refused_with_those_it_takes(kind, mime_type):
    with pytest.raises(MediaRefused) as refused:
        check(kind, mime_type, 1)
    assert refused.value.code == "unsupported_media"
    assert all(allowed in str(refused.value) for allowed in KINDS[kind].types)


def test_a_sticker_has_more_room_when_it_moves():
    assert is_animated(MOVING)
    assert not is_animated(STILL)
    assert not is_animated(MOVING[:20])
    check("sticker", "image/webp", 100 * KB, animated=False)
    check("sticker", "image/webp", 500 * KB, animated=True)
    with pytest.raises(MediaRefused, match="100 KB"):
        check("sticker", "image/webp", 100 * KB + 1, animated=False)


def test_an_empty_input_is_no_known_type():
    for kind in KINDS:
        with pytest.raises(MediaRefused):
            check(kind, (KINDS[kind].types or ("text/plain",))[0], 0)


@given(st.binary(max_size=HEAD), st.text() | st.none())
def test_any_bytes_under_any_name_have_a_type_and_an_ending(head, declared):
    found = true_type(head, declared)
    assert normalise(found) == found
    assert extension(found).isalnum()
