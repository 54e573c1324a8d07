"""A resource: routes of one kind, with what the OpenAPI document and the checks of requests know of them.

flask-openapi3 would describe each route as soon as it is declared. All descriptions together take four megabytes of
every process that serves them, and few processes are ever asked for the document. So they are made when it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask_openapi3 import APIBlueprint
from flask_openapi3.types import ParametersTuple
from flask_openapi3.utils import parse_parameters
from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Operation:
    """The names that a route reads."""

    query: frozenset[str]
    body: frozenset[str] | None  # None: it has no body


class Resource(APIBlueprint):
    """A blueprint whose routes are described when the document is made."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, __name__, **options)
        self._undescribed: list[Callable[[], object]] = []
        self._readers: dict[tuple[str, str], Callable[[], Operation]] = {}
        self._operations: dict[tuple[str, str], Operation] = {}

    def _collect_openapi_info(self, rule: str, func: Callable[..., Any], **details: Any) -> ParametersTuple:
        """Called by flask-openapi3 where a route is declared. Returns the models of what it reads."""
        self._undescribed.append(partial(super()._collect_openapi_info, rule, func, **details))
        found: ParametersTuple = parse_parameters(func, doc_ui=False)
        _, _, _, query, form, body, _ = found
        extensions = details.get("openapi_extensions") or {}
        self._readers[rule, details["method"].lower()] = partial(
            _operation, query, body or form, extensions.get("requestBody")
        )
        return found

    def operation(self, rule: str, method: str) -> Operation | None:
        """The names that a route reads; None if there is no such route. `method`: in lower case."""
        key = (rule, method)
        if key not in self._operations and key in self._readers:
            self._operations[key] = self._readers[key]()
        return self._operations.get(key)

    def describe(self) -> None:
        """Describe its routes in `paths`, `tags` and `components_schemas`, if that was not done before."""
        while self._undescribed:
            self._undescribed.pop(0)()


def _operation(
    query: type[BaseModel] | None, body: type[BaseModel] | None, documented: Mapping[str, Any] | None
) -> Operation:
    """`documented`: the body of a route that reads it by itself."""
    schemas = [] if body is None else [body.model_json_schema()]
    if documented is not None:
        schemas = [each["schema"] for each in documented["content"].values()]
    return Operation(
        frozenset(query.model_json_schema()["properties"]) if query else frozenset(),
        frozenset(name for schema in schemas for name in schema["properties"]) if schemas else None,
    )
