"""Templates as providers describe them: the values that they need, and the components and texts that these give."""

from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.bots import templates

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=12), each, max_size=4),
    max_leaves=20,
)
BUTTON = st.fixed_dictionaries(
    {"type": st.sampled_from(["URL", "OTP", "COPY_CODE", "QUICK_REPLY", "MPM"])},
    optional={"url": st.just("https://x/{{1}}"), "example": JSON, "text": JSON},
)
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["HEADER", "BODY", "footer", "BUTTONS", "CAROUSEL", ""])},
    optional={
        "text": st.text() | st.just("Hello {{1}} and {{name}}") | JSON,
        "format": st.sampled_from(["TEXT", "IMAGE"]),
        "example": JSON,
        "buttons": st.lists(BUTTON),
    },
)
PARTS = st.lists(PART)


def described(*components, **more):
    return {"name": "n", "language": "en", "category": "UTILITY", "components": list(components)} | more


def test_numbers_are_filled_in_their_order_wherever_they_stand():
    body = {"type": "BODY", "text": "{{2}} for {{1}}, {{10}}", "example": {"body_text": [["Aina", "tea", "x"]]}}
    found = templates.read(described(body))
    assert [(each.key, each.example) for each in found.fields] == [
        ("body.1", "Aina"), ("body.2", "tea"), ("body.10", "x")
    ]  # fmt: skip
    values = {"body.1": "A", "body.2": "B", "body.10": "C"}
    (component,) = templates.components(found, values)
    assert [each["text"] for each in component["parameters"]] == ["A", "B", "C"]
    assert templates.preview(found, values)["body"] == "B for A, C"
    assert templates.preview(found, {"body.1": "{{2}}"})["body"] == "{{2}} for {{2}}, {{10}}"


def test_a_place_and_buttons_have_their_values():
    found = templates.read(described(
        {"type": "HEADER", "format": "LOCATION"}, {"type": "BODY", "text": "Here"},
        {"type": "BUTTONS", "buttons": [
            {"type": "QUICK_REPLY", "text": "Yes"}, {"type": "URL", "text": "Track", "url": "https://example.com/{{1}}",
            "example": ["https://example.com/17"]}, {"type": "COPY_CODE", "example": "TEA20"},
        ]},
    ))  # fmt: skip
    assert [each.key for each in found.fields if each.is_required] == [
        "header.latitude", "header.longitude", "button.1", "button.2"
    ]  # fmt: skip
    values = {"header.latitude": "3.1", "header.longitude": "101.7", "button.1": "17", "button.2": "TEA20"}
    place = {"latitude": "3.1", "longitude": "101.7", "name": "", "address": ""}
    assert templates.components(found, values) == [
        {"type": "header", "parameters": [{"type": "location", "location": place}]},
        {"type": "button", "index": "1", "sub_type": "url", "parameters": [{"type": "text", "text": "17"}]},
        {"type": "button", "index": "2", "sub_type": "copy_code",
         "parameters": [{"type": "coupon_code", "coupon_code": "TEA20"}]},
    ]  # fmt: skip
    assert found.unsupported == ()


def test_parts_that_only_the_api_can_fill_are_named():
    found = templates.read(described({"type": "CAROUSEL"}, {"type": "BUTTONS", "buttons": [{"type": "MPM"}]}))
    assert found.unsupported == ("CAROUSEL", "MPM")


@given(PARTS, JSON)
def test_no_description_fails_and_each_value_is_used_once(parts, more):
    found = templates.read(described(*parts, name=more, language=more))
    keys = [each.key for each in found.fields]
    assert len(keys) == len(set(keys))
    templates.preview(found, {})
    components = templates.components(found, {key: f"value of {key}" for key in keys})
    for key in keys:
        assert str(components).count(f"value of {key}'") == 1
