"""Addresses as they are written: nothing is redirected to an address that the request's Host header would name."""

from typing import Any, NoReturn

from flask import Flask, Request
from werkzeug.exceptions import NotFound
from werkzeug.routing import Map, RequestRedirect


class _Map(Map):
    """A map of routes in which two slashes are not one: ids of messages may have them."""

    def __init__(self, *rules: Any, **options: Any) -> None:
        super().__init__(*rules, **options | {"merge_slashes": False})


class ExactAddresses(Flask):
    """Answers 404 instead of Flask's redirects."""

    url_map_class = _Map

    def raise_routing_exception(self, request: Request) -> NoReturn:
        """The error for an address that no route has."""
        if isinstance(request.routing_exception, RequestRedirect):
            raise NotFound
        super().raise_routing_exception(request)
