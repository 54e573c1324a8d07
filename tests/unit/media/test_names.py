"""Names of files: kept as people write them, and harmless on disks and in headers."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import parse_options_header

from services.media import names

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("invoice.pdf", "invoice.pdf"), ("C:\\docs\\a.pdf", "a.pdf"), ("../../etc/passwd", "passwd"),
        ("a\r\nb\0.pdf", "ab.pdf"), ("Rechnung für Ü.pdf", "Rechnung für Ü.pdf"), ("发票.pdf", "发票.pdf"),
        ("Ana 👩\u200d💻.pdf", "Ana 👩\u200d💻.pdf"), ("\u0645\u06cc\u200c\u062e.pdf", "\u0645\u06cc\u200c\u062e.pdf"),
        ("10\u202f000\u00a0€.pdf", "10\u202f000\u00a0€.pdf"), ("書類\u30001.pdf", "書類\u30001.pdf"),
        ("🫩.pdf", "🫩.pdf"), ("a\u202efdp.exe", "afdp.exe"),
        ("a\u2028b\u2029.pdf", "ab.pdf"), ("a\ud800b.pdf", "ab.pdf"), ("  .hidden.pdf. ", "hidden.pdf"),
        ("\u00a0a.pdf\u2009", "a.pdf"), ("Q1: a?b*.pdf", "Q1: a?b*.pdf"),
        ("", None), (None, None), ("..", None), ("docs/", None), ("\u202e", None), (" \u3000 ", None),
    ],
)  # fmt: skip
def test_a_name_loses_only_what_is_no_part_of_a_name(written, kept):
    assert names.safe(written) == kept


@given(st.text(max_size=400))
def test_any_name_becomes_harmless_and_stays_as_it_is_then(written):
    name = names.safe(written)
    if name is None:
        return
    assert names.safe(name) == name
    assert not set(name) & set("/\\\r\n\0")
    assert not {unicodedata.category(sign) for sign in name} & {"Cc", "Cs", "Zl", "Zp"}
    assert len(name.encode()) <= names.MAX_BYTES


@pytest.mark.parametrize("letter", ["x", "ü", "发", "👩"])
def test_a_long_name_keeps_its_ending(letter):
    name = names.safe(letter * 500 + ".pdf")
    assert name is not None
    assert len(name) <= names.MAX_CHARACTERS
    assert len(name.encode()) <= names.MAX_BYTES
    assert name.endswith(f"{letter}.pdf")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.com/a/Invoice%2017.pdf?x=y.z", "Invoice 17.pdf"), ("https://example.com/cat.JPG", "cat.JPG"),
        ("https://example.com/%E5%8F%91%E7%A5%A8.pdf#p2", "发票.pdf"), ("https://example.com/a.tar.gz", "a.tar.gz"),
        ("https://example.com/download", None), ("https://example.com/", None), ("https://example.com", None),
        ("https://example.com/download.php?id=17", None), ("https://example.com/get.ashx", None),
        ("https://example.com/export.aspx?file=a.pdf", None), ("https://example.com/v1.0/report", None),
        ("https://[::1/a.pdf", None),
    ],
)  # fmt: skip
def test_an_address_may_name_its_file(url, name):
    assert names.of_url(url) == name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="Invoice 17.pdf"', "Invoice 17.pdf"),
        ("attachment; filename=invoice.pdf", "invoice.pdf"),
        ("attachment; filename=Invoice 17.pdf", "Invoice 17.pdf"),
        ("attachment;filename = \"a.pdf\" ; size=3", "a.pdf"),
        ("attachment; FileName='a b.pdf'", "a b.pdf"),
        ('inline; filename="a;b.pdf"', "a;b.pdf"),
        ('attachment; filename="a \\"b\\".pdf"', 'a "b".pdf'),
        ('attachment; filename="unclosed.pdf', "unclosed.pdf"),
        ("attachment; filename*=UTF-8\'\'Angebot%20%E2%82%AC.pdf", "Angebot €.pdf"),
        ("attachment; filename*=utf-8\'de\'%C3%BC.pdf; filename=\"u.pdf\"", "ü.pdf"),
        ("attachment; filename=\"u.pdf\"; filename*=UTF-8\'\'%C3%BC.pdf", "ü.pdf"),
        ("attachment; filename*=\"UTF-8\'\'a%20b.pdf\"", "a b.pdf"),
        ("attachment; filename*=ISO-8859-1\'\'%FC.pdf", "ü.pdf"),
        ("attachment; filename*=UTF-8\'\'%FC.pdf; filename=u.pdf", "u.pdf"),
        ("attachment; filename*=klingon\'\'%FC.pdf; filename=u.pdf", "u.pdf"),
        ('attachment; filename="Angebot ü.pdf"', "Angebot ü.pdf"),
        ("attachment; filename=发票.pdf", "发票.pdf"),
        ('attachment; filename="a%20b.pdf"', "a b.pdf"),
        ('attachment; filename="100% sure.pdf"', "100% sure.pdf"),
        ('attachment; filename="=?UTF-8?B?w7wucGRm?="', "ü.pdf"),
        ('attachment; filename="=?UTF-8?Q?=C3=BC.pdf?="', "ü.pdf"),
        ('attachment; filename="C:\\Users\\ana\\a.pdf"', "a.pdf"),
        ('attachment; filename="../../etc/a.pdf"', "a.pdf"),
        ("attachment; filename*=UTF-8\'\'..%2F..%2Fa.pdf", "a.pdf"),
        ("attachment; filename=\"a\u202fb.pdf\"", "a\u202fb.pdf"),
        ("attachment; name=x.pdf", None), ("attachment", None), ("", None), ('attachment; filename=""', None),
        ("attachment; filename=", None), ('attachment; filename="/"', None),
    ],
)  # fmt: skip
def test_a_server_may_name_its_file(header, name):
    assert names.of_header(header.encode()) == name


def test_a_header_in_the_old_encoding_is_understood():
    assert names.of_header('attachment; filename="Angebot ü.pdf"'.encode("latin-1")) == "Angebot ü.pdf"


@given(st.binary(max_size=120) | st.binary(max_size=80).map(lambda value: b"attachment; filename=" + value))
def test_any_header_has_a_safe_name_or_none(header):
    name = names.of_header(header)
    assert name is None or names.safe(name) == name


@pytest.mark.parametrize(
    ("name", "mime_type", "expected"),
    [
        ("Invoice", "application/pdf", "Invoice.pdf"), ("Invoice.pdf", "application/pdf", "Invoice.pdf"),
        ("download.php", "application/pdf", "download.pdf"), ("Letter", DOCX, "Letter.docx"),
        ("notes", "application/octet-stream", "notes"), ("get.php", "application/octet-stream", "get.php"),
        ("Report v1.2 final", "application/pdf", "Report v1.2 final.pdf"), ("a.tar.gz", "application/gzip", "a.tar.gz"),
    ],
)  # fmt: skip
def test_a_name_gets_the_ending_of_its_type(name, mime_type, expected):
    assert names.with_ending(name, mime_type) == expected


@given(st.text(min_size=1, max_size=60))
def test_a_name_comes_back_from_its_header_and_has_no_line_breaks(text):
    name = names.safe(text)
    if name is None:
        return
    header = names.as_header("attachment", name)
    assert header.isascii()
    assert "\r" not in header
    assert "\n" not in header
    assert parse_options_header(header)[1]["filename"] == name
