"""Addresses as they are written: nothing is redirected to an address that the request's Host header would name."""

from typing import Any

from werkzeug.routing import Map


class ExactMap(Map):
    """A map of routes that never answers with a redirect."""

    def __init__(self, *rules: Any, **options: Any) -> None:
        fixed = {"merge_slashes": False, "strict_slashes": False, "redirect_defaults": False}
        super().__init__(*rules, **options | fixed)
