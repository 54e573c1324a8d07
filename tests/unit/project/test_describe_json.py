"""The page about `describe --json` has all keys, and only those."""

import re
from dataclasses import fields
from typing import Any

import pytest

from bisnesctl.views.bot_page import BotPage, CustomerWebhook
from bisnesctl.views.message_page import MessagePage
from bisnesctl.views.process_page import Limits, ProcessPage, RelatedProcess, ShownFile
from tests.support.documents import ROOT

PAGE = (ROOT / "docs" / "reference" / "describe-json.md").read_text()


def keys(row: Any) -> set[str]:
    return {each.name for each in fields(row)}


@pytest.mark.parametrize(
    ("section", "page", "parts"),
    [("process", ProcessPage, (Limits, RelatedProcess, ShownFile)), ("bot", BotPage, (CustomerWebhook,)),
     ("message", MessagePage, ())],
)  # fmt: skip
def test_every_key_is_documented_and_no_other(section: str, page: Any, parts: tuple[Any, ...]) -> None:
    text = PAGE.split(f"\n## `{section}`", 1)[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} == keys(page)
    assert all(f"`{name}`" in text for part in parts for name in keys(part))
    assert "kind" not in keys(page)
