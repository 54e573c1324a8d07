"""Only addresses of the public internet, and allowed ones, may be reached, in every form of an address."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import public_addresses
from services.public_addresses import OwnAddresses, may_reach

#: Networks that are not public, although some versions of Python count them so.
NOT_GLOBAL = [ip_network(each) for each in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")]

PRIVATE = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
    "192.168.1.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "fe80::1", "fe80::1%eth0", "fc00::1",
    "fd00:ec2::254", "fec0::1", "ff02::1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "2002:7f00:1::", "2001:db8::1",
    "2001:0:7f00:1::", "168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::168.63.129.16", "192.0.0.8", "192.0.0.192",
    "192.88.99.1", "2001:2::1", "2001:20::1", "3fff::1", "", "localhost", "2130706433",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "157.240.1.1", "2a03:2880:f12f:83:face:b00c:0:25de", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused(address):
    assert not may_reach(address, ())


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_is_in_reach(address):
    assert may_reach(address, ())


@given(st.ip_addresses(v=4))
def test_an_address_in_another_form_is_the_same_address(address):
    expected = address.is_global and not address.is_multicast and not any(address in each for each in NOT_GLOBAL)
    for form in (f"{address}", f"::ffff:{address}", f"64:ff9b::{address}"):
        assert may_reach(form, ()) is expected


@given(st.ip_addresses(v=6))
def test_of_ipv6_the_public_part_alone_is_in_reach(address):
    if may_reach(str(address), ()):
        assert address in ip_network("2000::/3") or address.ipv4_mapped or address in ip_network("64:ff9b::/96")
        assert not address.is_private
        assert not address.is_multicast


@given(st.ip_addresses(v=4) | st.ip_addresses(network="fd00::/8"), st.integers(8, 32))
def test_an_open_network_opens_itself_and_nothing_else(address, prefix):
    opened = ip_network((address, prefix), strict=False)
    assert may_reach(str(address), [opened])
    other = IPv4Address("10.1.2.3") if isinstance(address, IPv6Address) else IPv6Address("fd00::1")
    assert not may_reach(str(other), [opened])
    neighbour = ip_address(int(opened[0]) ^ (1 << (opened.max_prefixlen - prefix)))
    assert may_reach(str(neighbour), [opened]) is may_reach(str(neighbour), ())


def test_a_public_address_of_this_machine_itself_is_refused(monkeypatch):
    own = OwnAddresses(lambda: ["127.0.0.1", "1.1.1.1", "2a03:2880::35%eth0"])
    monkeypatch.setattr(public_addresses, "_own", own)
    for address in ("1.1.1.1", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2a03:2880::35"):
        assert not may_reach(address, ())
    assert may_reach("1.1.1.2", ())
    assert may_reach("1.1.1.1", [ip_network("1.1.1.0/24")])


def test_the_addresses_of_this_machine_are_known():
    assert ip_address("127.0.0.1") in public_addresses._own


@given(st.text())
def test_anything_that_is_no_ip_address_is_refused(text):
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        assert not may_reach(text, [ip_network("0.0.0.0/0"), ip_network("::/0")])
