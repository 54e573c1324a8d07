"""Access: roles, companies, forged requests, headers, and what strangers see."""

import pytest
from flask import Blueprint

from bisnesctl.audit import delivery, reading, trail
from bisnesctl.audit.store import AuditFilter
from bisnesctl.people.roles import Role
from services.dashboard import access
from services.dashboard.access import access_of
from services.dashboard.app import HEADERS
from tests.integration.dashboard.conftest import PASSWORD

#: Values for the variables of addresses.
VALUES = {
    "name": "api-0", "action": "restart", "subject": "api-0", "run_id": "0000000000-00000000",
    "filename": "dashboard.css",
}  # fmt: skip


def addresses(app, method):
    """All addresses of the application that take a method, with their endpoints."""
    adapter = app.url_map.bind("127.0.0.1")
    for rule in app.url_map.iter_rules():
        if method in rule.methods:
            yield adapter.build(rule.endpoint, {name: VALUES.get(name, "1") for name in rule.arguments}, method), rule


def test_every_address_answers_strangers_with_the_sign_in_page_or_is_open(app, visitor):
    for path, rule in addresses(app, "GET"):
        answer = visitor.get(path)
        if access_of(app, rule.endpoint).role is None:
            assert answer.status_code in (200, 302), path
        else:
            assert answer.status_code == 302, path
            assert answer.location.startswith("/ui/sign-in?next=/ui"), path


def test_no_address_fails_for_an_administrator(app, signed_in):
    visitor = signed_in()
    for path, rule in addresses(app, "GET"):
        answer = visitor.get(path)
        assert answer.status_code < 500, (path, answer.text)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS, rule


def test_a_viewer_can_change_nothing_with_requests_of_their_own(app, signed_in):
    visitor = signed_in(Role.VIEWER)
    own = ("account.", "sign_in.", "preferences.")
    for path, rule in addresses(app, "POST"):
        if not rule.endpoint.startswith(own):
            assert visitor.post(path).status_code == 403, path


def test_a_company_sees_no_page_about_the_whole_deployment(app, signed_in):
    visitor = signed_in(Role.OPERATOR, "0128")
    for method in ("GET", "POST"):
        for path, rule in addresses(app, method):
            known = access_of(app, rule.endpoint)
            if known.role is not None and not known.company:
                answer = visitor.get(path) if method == "GET" else visitor.post(path)
                assert answer.status_code == 403, path


def test_forged_requests_are_refused(app, signed_in):
    visitor = signed_in()
    for path, rule in addresses(app, "POST"):
        foreign = {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}
        for headers in foreign:
            assert visitor.post(path, headers=headers).status_code == 403, path
        if access_of(app, rule.endpoint).role is not None:
            assert visitor.post(path, with_token=False).status_code == 403, path
            assert visitor.post(path, with_token=False, csrf="0" * 64).status_code == 403, path


def test_a_view_without_a_declaration_stops_the_application(app):
    pages = Blueprint("forgotten", __name__)
    app._got_first_request = False
    pages.add_url_rule("/ui/forgotten", view_func=lambda: "open")
    app.register_blueprint(pages)
    with pytest.raises(LookupError, match="forgotten"):
        access.check_routes(app)


def test_a_foreign_host_name_is_refused(visitor):
    assert visitor.client.get("/ui/sign-in", base_url="http://evil.example").status_code == 403


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/ui/", "/\\evil.example", "javascript:x", "/ui/\n"]
)
def test_no_link_leads_to_another_site(visitor, people, password_hash, target):
    people.accept(people.add("aisha", Role.VIEWER, None), password_hash)
    answer = visitor.post("/ui/sign-in", name="aisha", password=PASSWORD, next=target)
    assert (answer.status_code, answer.location) == (302, "/ui/")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-bisnes=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= {each.strip() for each in cookie.split(";")}


def test_a_signed_in_person_goes_where_the_person_wanted(visitor, people, password_hash):
    people.accept(people.add("aisha", Role.VIEWER, None), password_hash)
    wanted = visitor.get("/ui/processes").location
    assert wanted == "/ui/sign-in?next=/ui/processes"
    answer = visitor.post(wanted, name="Aisha ", password=PASSWORD)
    assert answer.location == "/ui/processes"


def test_the_page_says_why_no_sign_in_is_kept_without_tls(visitor):
    page = visitor.client.get("/ui/sign-in", base_url="http://192.0.2.7:3004").text
    assert "not encrypted" in page
    assert "not encrypted" not in visitor.text("/ui/sign-in")


def test_too_many_attempts_are_refused_with_the_time_to_wait(visitor, people, password_hash):
    people.accept(people.add("aisha", Role.VIEWER, None), password_hash)
    found = [visitor.post("/ui/sign-in", name="aisha", password="wrong").status_code for _ in range(6)]
    assert found == [401, 401, 401, 401, 429, 429]
    assert visitor.post("/ui/sign-in", name="aisha", password=PASSWORD).status_code == 429


def test_sign_ins_are_in_the_audit_trail_with_their_outcome(visitor, people, password_hash, settings):
    people.accept(people.add("aisha", Role.VIEWER, None), password_hash)
    visitor.post("/ui/sign-in", name="aisha", password="wrong")
    visitor.post("/ui/sign-in", name="aisha", password=PASSWORD)
    delivery.deliver(settings)
    assert list(trail.waiting(settings.home)) == []
    found = reading.read(settings, AuditFilter(who="aisha")).records
    assert {(each["source"], each["action"], each["outcome"]) for each in found} == {
        ("dashboard", "sign in", "failed"), ("dashboard", "sign in", "ok")
    }  # fmt: skip


def test_an_invitation_becomes_an_account(visitor, people):
    code = people.add("aisha", Role.VIEWER, None)
    for form in ({"password": "short", "again": "short"}, {"password": PASSWORD, "again": "another"}):
        answer = visitor.post("/ui/invitation", code=code, **form)
        assert answer.status_code == 400
        assert code in answer.text
    assert visitor.post("/ui/invitation", code=code, password=PASSWORD, again=PASSWORD).status_code == 302
    assert visitor.post("/ui/invitation", code=code, password=PASSWORD, again=PASSWORD).status_code == 400
    assert visitor.post("/ui/sign-in", name="aisha", password=PASSWORD).status_code == 302


def test_sign_out_ends_the_sign_in(signed_in, people):
    visitor = signed_in(Role.VIEWER, "0128")
    assert visitor.post("/ui/sign-out").status_code == 302
    assert people.of_token(visitor.token) is None


def test_an_error_that_nobody_expected_is_a_page_with_the_id_of_the_request(app, signed_in, monkeypatch):
    visitor = signed_in()
    monkeypatch.setitem(app.view_functions, "people.index", access.needs(Role.VIEWER)(lambda: 1 / 0))
    answer = visitor.get("/ui/people")
    assert answer.status_code == 500
    assert "ZeroDivisionError" not in answer.text
