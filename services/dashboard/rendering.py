"""Makes HTML from the templates: whole pages, and the part of a page that changes while somebody looks at it.

That part is the block `live` of a template. The same template makes the page and the updates, which `live` sends.
"""

import hashlib
import json
import re
import time
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask, current_app, g, url_for
from markupsafe import Markup

from bisnesctl import formatting, moments
from services.dashboard import access, navigation, texts

#: Stands for a value that is not known, or not there.
NOTHING = Markup("\N{EN DASH}")
#: The key in a WSGI environment of a request for the live part alone.
LIVE = "dashboard.live"
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}")
_COMMAND = re.compile(r"`([^`\n]{1,200})`")
#: The name of the block that changes.
LIVE_BLOCK = "live"


def attach(app: Flask) -> None:
    """Make what templates use known to the application."""
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals |= {
        "t": texts.text, "tn": texts.counted, "language": texts.language, "languages": texts.languages,
        "may": access.may, "can_open": access.can_open, "csrf_token": access.csrf_token,
        "navigation": navigation.entries, "static": _static, "url_for": _address,
    }  # fmt: skip
    app.jinja_env.filters |= {
        "moment": moment, "ago": ago, "duration": formatting.duration, "size": formatting.size, "number": number,
        "iso": iso, "json": as_json, "words": words, "short_moment": short_moment,
        "typed": typed, "select_known": select_known,
    }  # fmt: skip
    app.jinja_env.globals["m"] = app.jinja_env.get_template("macros.html").module  # blocks see no imports of a template


def page(template: str, status: int = 200, /, **values: Any) -> tuple[str, int]:
    """A page, or its live part if the request is for that alone."""
    found = current_app.jinja_env.get_template(template)
    current_app.update_template_context(values)
    if not g.get("is_live"):
        return found.render(values | {"is_live": LIVE_BLOCK in found.blocks}), status
    if status >= 500 or LIVE_BLOCK not in found.blocks:
        return _reason(values), status if status >= 400 else 404
    return "".join(found.blocks[LIVE_BLOCK](found.new_context(values))), status


def _reason(values: Mapping[str, Any]) -> str:
    """Why a page has no live part, as text."""
    return " ".join(str(each) for name in ("message", "problem", "reason", "command") if (each := values.get(name)))


def typed(text: object) -> Markup:
    """A text in which commands are between backticks, as HTML."""
    parts = _COMMAND.split(str(text))
    return Markup("").join(Markup("<code>{}</code>").format(each) if n % 2 else each for n, each in enumerate(parts))


def moment(at: float | None) -> Markup:
    """A time, in seconds since the epoch, that the browser shows in the viewer's zone; the exact one on hover."""
    if at is None:
        return NOTHING
    exact = moments.iso(at)
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact, shown)


def short_moment(at: float) -> Markup:
    """A time to the minute, which the browser shows in the viewer's zone."""
    exact, shown = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(at)), time.strftime("%d %H:%M", time.gmtime(at))
    return Markup('<time class="short" datetime="{0}">{1}</time>').format(exact, shown)


def ago(at: float | None) -> Markup:
    """How long ago a time is; the exact one on hover."""
    if at is None:
        return NOTHING
    exact, age = moments.iso(at), formatting.duration(max(0.0, time.time() - at))
    shown = texts.text("common.ago", age=age)
    return Markup('<time datetime="{0}" title="{0}" class="age">{1}</time>').format(exact, shown)


def select_known(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those of the values that are there."""
    return {name: value for name, value in (values or {}).items() if value not in (None, {}, [])}


def iso(value: object) -> object:
    """A text that is a time becomes one that the browser shows in the viewer's zone; all else stays."""
    if value is None:
        return NOTHING
    try:
        return moment(datetime.fromisoformat(str(value)).timestamp()) if _TIME.match(str(value)) else value
    except ValueError:
        return value


def as_json(value: object) -> str:
    """A value as indented JSON, for people."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def words(value: object) -> str:
    """The arguments of a command or a request in a line."""
    return " ".join(map(str, value)) if isinstance(value, list) else "" if value in (None, {}) else as_line(value)


def as_line(value: object) -> str:
    """A value as JSON in a line."""
    return json.dumps(value, ensure_ascii=False, default=str)


def number(value: float | None) -> str:
    """A number with groups of three digits, or a dash if it is not known."""
    return NOTHING if value is None else f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def _address(endpoint: str, **values: Any) -> str:
    """The address of a view."""
    return url_for(endpoint, **values) if values else _plain_address(endpoint)


@cache
def _plain_address(endpoint: str) -> str:
    """The same without values; a menu has many of them."""
    return url_for(endpoint)


@cache
def _static(name: str) -> str:
    """The address of a file, which changes with its content, so that browsers may keep it."""
    version = hashlib.sha256((Path(__file__).with_name("static") / name).read_bytes()).hexdigest()[:12]
    return url_for("static", filename=name, v=version)
