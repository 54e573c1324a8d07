"""The meaning of the page's report for its session."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.connectors.wwebjs.browser.page_health import Health
from services.connectors.wwebjs.states.state_machine import PageState, see

WORKS = Health("b", True, "MAIN", "NORMAL", "CONNECTED", True, True, False, "60123456789@c.us", "4.6.1", "2.3000")


@pytest.mark.parametrize(
    ("changes", "linked", "view"),
    [
        ({}, True, PageState.WORKING),
        ({"full": False}, True, PageState.LOADING),
        ({"mode": "SYNCING", "socket": "PAIRING"}, True, PageState.SYNCING),
        ({"authenticated": None}, False, PageState.LOADING),
        ({"authenticated": False, "mode": "QR", "socket": "UNPAIRED"}, False, PageState.SCAN),
        ({"authenticated": False, "mode": "QR", "socket": "UNPAIRED"}, True, PageState.LOGGED_OUT),
        ({"socket": "TIMEOUT"}, True, PageState.OFFLINE),
        ({"mode": "OFFLINE"}, True, PageState.OFFLINE),
        ({"mode": "PROXYBLOCK"}, True, PageState.OFFLINE),
        ({"mode": "CONFLICT"}, True, PageState.CONFLICT),
        ({"socket": "CONFLICT"}, True, PageState.CONFLICT),
        ({"needs_update": True}, True, PageState.WORKING),
        ({"mode": "DEPRECATED_VERSION"}, True, PageState.OUTDATED),
        ({"mode": "TOS_BLOCK"}, True, PageState.BANNED),
        ({"mode": "SMB_TOS_BLOCK", "full": False}, False, PageState.BANNED),
    ],
)
def test_the_report_of_the_page_decides_its_state(changes, linked, view):
    assert see(replace(WORKS, **changes), linked).state is view


modes = st.sampled_from([None, "QR", "MAIN", "SYNCING", "OFFLINE", "CONFLICT", "TOS_BLOCK", "PROXYBLOCK", "new"])
sockets = st.sampled_from([None, "CONNECTED", "UNPAIRED", "TIMEOUT", "OPENING", "new"])
maybe = st.sampled_from([None, False, True])


@given(modes, sockets, st.booleans(), maybe, maybe, st.booleans())
def test_the_page_works_only_if_all_parts_say_so_and_every_fault_has_a_reason(
    mode, socket, full, authenticated, update, linked
):
    health = replace(
        WORKS, mode=mode, socket=socket, full=full, authenticated=authenticated, needs_update=update
    )  # fmt: skip
    seen = see(health, linked)
    whole = full and authenticated is True and mode == "MAIN" and socket == "CONNECTED"
    assert (seen.state is PageState.WORKING) == whole
    if seen.state not in (PageState.WORKING, PageState.SCAN, PageState.LOADING):
        assert seen.reason
