"""Rules of webhook URLs, parameters of streams, and the form of an event."""

import ipaddress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api import sse
from services.api.auth import Principal
from services.events import addresses
from services.events.names import ALL, CATALOGUE, unknown
from services.events.sender import signature
from services.events.store import Event
from services.http_server.errors import ApiError

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
texts = st.text(max_size=40)


@given(texts | texts.map("https://{}".format) | texts.map("http://customer.example{}".format))
def test_an_address_is_good_or_refused_with_a_sentence(url):
    try:
        addresses.check(url, ())
    except ValueError as error:
        assert str(error)
    else:
        assert url.isascii()
        assert url.partition("://")[0].lower() in ("http", "https")
        assert "\n" not in url
        assert " " not in url


@given(st.ip_addresses())
def test_a_literal_address_is_good_if_the_internet_has_it(address):
    host = f"[{address}]" if address.version == 6 else str(address)
    try:
        addresses.check(f"https://{host}:8443/hook", ())
    except ValueError:
        return
    assert address.is_global
    assert not address.is_multicast


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "a.localhost"])
def test_an_open_network_may_be_named(host):
    addresses.check(f"http://{host}:9/", LOOPBACK)
    with pytest.raises(ValueError, match="ALLOWED_NETWORKS"):
        addresses.check(f"http://{host}:9/", ())


@given(st.lists(st.sampled_from([*CATALOGUE, ALL]) | texts))
def test_unknown_names_of_events_are_found(names):
    assert unknown(names) == [name for name in names if name not in CATALOGUE and name != "*"]


@given(st.none() | texts, st.none() | texts, st.none() | texts, st.none() | texts)
def test_any_stream_request_is_parsed_or_refused(company, events, session, last_id):
    try:
        request = sse.parse(Principal("0128"), company, events, session, last_id)
    except ApiError as error:
        assert error.status in (400, 403)
    else:
        assert request.filter.company_id == "0128"
        assert request.filter.names is None or not unknown(request.filter.names)


@given(st.dictionaries(texts, texts), texts)
def test_an_event_is_one_block_of_the_stream(payload, session):
    event = Event("evt_1", 7, "message", session, "0128", orjson.dumps(payload).decode())
    *lines, end, nothing = sse.event_block(event).decode().split("\n")
    assert (end, nothing) == ("", "")
    fields = dict(line.split(": ", 1) for line in lines)
    assert (fields["id"], fields["event"]) == ("evt_1", "message")
    told = orjson.loads(fields["data"])
    assert (told["payload"], told["session"], told["company"]) == (payload, session, "0128")


def test_the_signature_is_hmac_sha512_in_hex():
    """The second test case of RFC 4231."""
    assert signature("Jefe", b"what do ya want for nothing?") == (
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b"
        "636e070a38bce737"
    )
