"""The Flask application of the API: every route, its auth, its errors and its OpenAPI document."""

import threading
from collections.abc import Iterable
from typing import Any

from flask import Request, current_app, request
from flask.json.provider import DefaultJSONProvider
from flask_openapi3 import OpenAPI
from pydantic import ValidationError

from services.api import audit
from services.api.auth import Auth, declare, guard
from services.api.context import Context
from services.api.field_names import check_body, of_request
from services.api.messages.request_fields import json_object
from services.api.openapi import INFO, SECURITY, Problem
from services.api.resource import Resource
from services.api.routes import health
from services.api.routes.health import Observer
from services.http_server.body import MAX_BODY
from services.http_server.errors import answer_errors, invalid_request
from services.http_server.routing import ExactAddresses

#: The name of the resource whose presence adds the events to the document.
WEBHOOKS = "webhooks"

#: The page uses no other server, so no validator on the internet.
_PAGE = {"validatorUrl": None, "persistAuthorization": True, "defaultModelsExpandDepth": 0}


class _JsonRequest(Request):
    def get_json(self, *_: Any, **__: Any) -> Any:
        """The body, regardless of its Content-Type, read like the bodies of sends. Raises `ApiError` (invalid_json)."""
        return json_object(self.get_data(), '{"company": "0128"}')


class Api(ExactAddresses, OpenAPI):
    """Flask with our routing and an OpenAPI document."""

    request_class = _JsonRequest

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._document_lock = threading.Lock()

    @property
    def api_doc(self) -> dict[str, Any]:
        """The document, which is made when somebody asks for it. Safe for threads."""
        with self._document_lock:
            document: dict[str, Any] = super().api_doc
            return document

    def generate_spec_json(self) -> None:
        """Make the document; an application with webhooks describes the events as well."""
        for resource in self.blueprints.values():
            if isinstance(resource, Resource):
                self._describe(resource)
        super().generate_spec_json()  # type: ignore[no-untyped-call]
        if WEBHOOKS in self.blueprints:
            from services.api import event_schemas

            self.spec_json["webhooks"] = event_schemas.webhooks()
            self.spec_json["components"]["schemas"] |= event_schemas.payload_schemas()

    def _describe(self, resource: Resource) -> None:
        resource.describe()
        self.tags += [tag for tag in resource.tags if tag.name not in self.tag_names]
        self.tag_names += [tag.name for tag in resource.tags if tag.name not in self.tag_names]
        self.paths |= resource.paths
        self.components_schemas |= resource.components_schemas


class _Json(DefaultJSONProvider):
    sort_keys = False
    ensure_ascii = False


def create_app(context: Context, resources: Iterable[Resource] | None = None) -> OpenAPI:
    """The application that serves the resources, by default all, with `context`. It connects to nothing by itself."""
    if resources is None:
        from services.api.resources import RESOURCES  # the manager of sessions needs three of them

        resources = RESOURCES
    app = Api(
        "services.api",
        info=INFO,
        security_schemes=SECURITY,
        validation_error_status=400,
        validation_error_model=Problem,
        validation_error_callback=_refuse,
        static_folder=None,
    )
    app.json = _Json(app)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY, SWAGGER_CONFIG=_PAGE)
    for pages in ("openapi", "swagger"):
        declare(app.blueprints[pages], Auth.NONE)
    health.attach(app, Observer(context))
    answer_errors(app)
    audit.attach(app, context.settings)
    guard(app, context)
    for blueprint in resources:
        app.register_api(blueprint)
    return app


def _refuse(error: ValidationError) -> None:
    operation = of_request(current_app, request)
    if operation is not None and operation.body is not None:
        unread = [str(each["loc"][0]) for each in error.errors() if each["type"] == "extra_forbidden"]
        check_body(unread, operation.body, operation.query)
    raise invalid_request(error) from None
