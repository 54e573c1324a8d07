"""Templates with parameters of any kind: what the simulator refuses, and with which code.

The table holds what Meta documents ("Error codes", "Message templates") and what integrations report of the real API;
it is not derived from our connector.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sandbox.database import Database
from services.sandbox.meta.accounts.template_parameters import fill
from services.sandbox.meta.accounts.templates import Template
from services.sandbox.meta.registry import Registry
from services.sandbox.meta.request_fields import GraphError
from services.sandbox.meta.schema import SCHEMA

LINK = "https://example.com/file"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    database = Database(tmp_path_factory.mktemp("templates") / "sandbox.db", SCHEMA)
    registry = Registry(database)
    for template in (
        Template(name="named", body="Hello {{name}}, your order {{order}} left."),
        Template(name="headed", header="Order {{1}}", body="Hello {{1}}."),
        Template(name="linked", body="Look", buttons=["Track", "Open {{1}}"]),
        Template(name="filmed", header="VIDEO", body="Look"),
        Template(name="placed", header="LOCATION", body="Here"),
    ):
        registry.update("template", template.key, template.model_dump())
    yield registry
    database.close()


def text(value: Any, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **more}


def body(*values: Any) -> dict[str, Any]:
    return {"type": "body", "parameters": [text(value) for value in values]}


def header(**parameter: Any) -> dict[str, Any]:
    return {"type": "header", "parameters": [parameter]}


def named(**values: str) -> dict[str, Any]:
    return {"type": "body", "parameters": [text(value, parameter_name=name) for name, value in values.items()]}


def button(*values: Any, **more: Any) -> dict[str, Any]:
    return {"type": "button", "sub_type": "url", "index": "1", "parameters": [text(value) for value in values], **more}


def sent(registry, name, *components):
    return fill(registry, {"name": name, "language": {"code": "en"}, "components": list(components)})


DOCUMENT = header(type="document", document={"link": LINK, "filename": "bill.pdf"})


@pytest.mark.parametrize(
    ("name", "components", "shown"),
    [
        ("order_update", [body("Ana", "17")], "Hello Ana, your order 17 is on its way."),
        ("order_update", [body("Ana    B", "17")], "Hello Ana    B, your order 17 is on its way."),
        ("order_update", [body("آنا", "१७")], "Hello آنا, your order १७ is on its way."),
        ("order_update", [{"type": "BODY", "parameters": [text("Ana"), text("17")]}],
         "Hello Ana, your order 17 is on its way."),
        ("hello_world", [], "Hello World\nWelcome, and thank you for writing to us."),
        ("named", [named(order="17", name="Ana")], "Hello Ana, your order 17 left."),
        ("headed", [header(**text("17")), body("Ana")], "Order 17\nHello Ana."),
        ("invoice", [DOCUMENT, body("Ana", "9")], "[document]\nDear Ana, this is your invoice over 9."),
        ("linked", [button("17")], "Look"),
        ("placed", [header(type="location", location={"latitude": 1, "longitude": 2})], "[location]\nHere"),
    ],
)  # fmt: skip
def test_a_template_with_right_parameters_is_filled(registry, name, components, shown):
    assert sent(registry, name, *components).text == shown


def test_the_file_of_a_templates_header_is_found(registry):
    found = sent(registry, "invoice", DOCUMENT, body("Ana", "9")).attachment
    assert found is not None
    assert (found.kind, found.link, found.media_id) == ("document", LINK, None)


@pytest.mark.parametrize(
    ("name", "components", "code"),
    [
        # 132001: no such name, or none in this language
        ("nobody_knows", [], 132001),
        # 132015: paused for its quality
        ("paused_template", [], 132015),
        # 132000: "The number of variable parameter values … did not match the number of variable parameters"
        ("order_update", [], 132000),
        ("order_update", [body("Ana")], 132000),
        ("order_update", [body("Ana", "17", "more")], 132000),
        ("hello_world", [body("Ana")], 132000),
        ("hello_world", [header(**text("Ana"))], 132000),
        ("headed", [body("Ana")], 132000),
        ("named", [named(name="Ana")], 132000),
        ("named", [], 132000),
        ("linked", [button("17"), button("x", index="7")], 132000),
        # 100: "Parameter name is missing or empty"
        ("named", [body("Ana", "17")], 100),
        ("named", [named(**{"": "Ana", "order": "17"})], 100),
        # 100: "Parameter 'text' is mandatory for component parameter type 'text'"
        ("order_update", [body(None, "17")], 100),
        # 100: no such component
        ("order_update", [{"type": "dance"}], 100),
        # 131008: a value that is empty; a button without its parameter
        ("order_update", [body("", "17")], 131008),
        ("linked", [], 131008),
        ("linked", [{"type": "button", "sub_type": "url", "index": 1}], 131008),
        # 132012: "Variable parameter values formatted incorrectly"
        ("named", [named(name="Ana", number="17")], 132012),
        ("order_update", [{"type": "body", "parameters": [{"type": "dance"}] * 2}], 132012),
        ("order_update", [{"type": "body", "parameters": [text("Ana"), {"type": "image", "image": {"link": LINK}}]}],
         132012),
        ("invoice", [body("Ana", "9")], 132012),
        ("invoice", [header(**text("x")), body("Ana", "9")], 132012),
        ("invoice", [header(type="image", image={"link": LINK}), body("Ana", "9")], 132012),
        ("filmed", [], 132012),
        ("filmed", [DOCUMENT], 132012),
        # 132018: "Param text cannot have new-line/tab characters or more than 4 consecutive spaces"
        ("order_update", [body("Ana\nBen", "17")], 132018),
        ("order_update", [body("Ana\r\nBen", "17")], 132018),
        ("order_update", [body("Ana", "1\t7")], 132018),
        ("order_update", [body("Ana     Ben", "17")], 132018),
        ("headed", [header(**text("1\n7")), body("Ana")], 132018),
        ("named", [named(name="Ana\n", order="17")], 132018),
        ("linked", [button("1\n7")], 132018),
        # 132005: the translated text is too long
        ("headed", [header(**text("x" * 60)), body("Ana")], 132005),
        ("headed", [header(**text("17")), body("x" * 1024)], 132005),
        ("order_update", [body("x" * 32_768, "17")], 132005),
    ],
)  # fmt: skip
def test_a_template_with_wrong_parameters_is_refused_with_metas_code(registry, name, components, code):
    with pytest.raises(GraphError) as refused:
        sent(registry, name, *components)
    assert refused.value.code == code


@given(st.text(max_size=40))
def test_a_value_is_refused_for_its_blanks_alone(registry, value):
    forbidden = any(sign in value for sign in "\n\r\t") or "     " in value
    try:
        assert sent(registry, "order_update", body("Ana", f"x{value}")).text.endswith(f"x{value} is on its way.")
        assert not forbidden
    except GraphError as refused:
        assert forbidden
        assert refused.code == 132018
