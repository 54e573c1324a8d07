"""The simulator's business accounts: which numbers they list, and which tokens open them."""

from tests.integration.sandbox.test_meta_channel import BEARER, code, graph, other, receiver, sandbox, stage

__all__ = ["other", "receiver", "sandbox", "stage"]  # the fixtures


def numbers_of(sandbox, account, headers=BEARER, **asked):
    found = graph(sandbox, "GET", f"{account}/phone_numbers", headers, params=asked).json()
    return [each["id"] for each in found["data"]], found.get("paging", {})


def test_an_account_lists_its_numbers_page_by_page(sandbox):
    for number in range(30):
        sandbox.control("number", phone_number_id=f"20{number:02}", account="88")
    sandbox.control("number", phone_number_id="2099", account="88", exists=False)
    seen, after = [], ""
    while True:
        page, paging = numbers_of(sandbox, "88", fields="id", limit=7, after=after)
        seen += page
        if "next" not in paging:
            break
        after = paging["cursors"]["after"]
    assert seen == [f"20{number:02}" for number in range(30)]
    assert len(numbers_of(sandbox, "88")[0]) == 25
    assert numbers_of(sandbox, "89") == ([], {})


def test_a_number_without_an_account_gets_the_account_that_it_is_linked_with(sandbox):
    graph(sandbox, "GET", "1055")
    assert numbers_of(sandbox, "77")[0] == ["1055"]
    graph(sandbox, "GET", "1055", {"Authorization": "Bearer another"})
    assert numbers_of(sandbox, "78", {"Authorization": "Bearer another"})[0] == []
    graph(sandbox, "GET", "1056")
    assert numbers_of(sandbox, "100000000000001")[0] == ["1056", "106540352242922"]


def test_a_token_of_one_account_cannot_see_another(sandbox):
    scope = {"scope": "whatsapp_business_management", "target_ids": ["77"]}
    sandbox.control("token", token="t-77", granular_scopes=[scope])
    sandbox.control("number", phone_number_id="1055", account="77")
    sandbox.control("number", phone_number_id="2066", account="88")
    mine = {"Authorization": "Bearer t-77"}
    assert graph(sandbox, "GET", "1055", mine).ok
    assert numbers_of(sandbox, "77", mine)[0] == ["1055"]
    for method, path in (("GET", "2066"), ("GET", "88/phone_numbers"), ("POST", "88/subscribed_apps"),
                         ("POST", "2066/register"), ("GET", "88/message_templates")):  # fmt: skip
        assert code(graph(sandbox, method, path, mine, json={})) == 100, path
    assert sandbox.send("x", token="t-77", number="2066").status_code == 400
    assert sandbox.send("x", token="t-77", number="1055").status_code == 200
