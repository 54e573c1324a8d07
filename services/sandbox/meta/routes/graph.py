"""The routes of the Graph API."""

from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, request
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from services.sandbox.control_requests import sent_fields
from services.sandbox.meta.media import DOWNLOAD_PATH, is_media_id
from services.sandbox.meta.request_fields import GraphError, check_product
from services.sandbox.meta.routes.answers import MAX_UPLOAD_BYTES, respond
from services.sandbox.meta.routes.groups import add_groups
from services.sandbox.meta.simulator import Simulator


def blueprint(simulator: Simulator) -> Blueprint:
    """All routes of the Graph API. `<node>` is the id of a number, of an account or of a file."""
    graph = Blueprint("graph", __name__)
    for add in (_add_messages, _add_media, _add_nodes, _add_lists, _add_customers, _add_subscriptions, _add_signup):
        add(graph, simulator)
    add_groups(graph, simulator, lambda number: _authorise(simulator, number))

    @graph.url_value_preprocessor
    def check_version(_: str | None, values: dict[str, Any] | None) -> None:
        if values and not values.pop("version", "v").startswith("v"):
            raise NotFound

    return graph


def _authorization() -> str | None:
    """The request's credential: of the header, or the parameter `access_token`, which the Graph API accepts as well."""
    token = request.args.get("access_token")
    return f"Bearer {token}" if token else request.headers.get("Authorization")


def _authorise(simulator: Simulator, node: str | None = None) -> str:
    return simulator.authorise(_authorization(), node=node)


def _add_messages(graph: Blueprint, simulator: Simulator) -> None:
    @graph.post("/<version>/<int:node>/messages")
    def send(node: int) -> Response:
        return respond(simulator.send(str(node), _authorization(), request.get_data()))


def _add_media(graph: Blueprint, simulator: Simulator) -> None:
    media = simulator.media

    @graph.post("/<version>/<int:node>/media")
    def upload(node: int) -> Response:
        def store() -> dict[str, Any]:
            _authorise(simulator)
            request.max_content_length = MAX_UPLOAD_BYTES
            check_product(request.form)
            return media.upload(str(node), request.files.get("file"), request.form.get("type"))

        return respond(simulator.call("upload", str(node), store))

    @graph.delete("/<version>/<int:node>")
    def delete(node: int) -> Response:
        def forget() -> dict[str, Any]:
            _authorise(simulator)
            media.delete(str(node))
            return {"success": True}

        return respond(simulator.call("media", str(node), forget))

    @graph.get(DOWNLOAD_PATH)
    def download() -> Response:
        _authorise(simulator)
        query = request.args
        return respond(simulator.download(query.get("mid", ""), query.get("ext", ""), query.get("hash", "")))


Work = Callable[..., dict[str, Any] | tuple[int, dict[str, Any]]]


def _managed(simulator: Simulator, node: int | None, work: Work, *arguments: Any) -> Response:
    """Answer a management call about a number or an account, if the token may see it."""
    name = () if node is None else (str(node),)

    def authorised() -> dict[str, Any] | tuple[int, dict[str, Any]]:
        _authorise(simulator, *name)
        return work(*name, *arguments)

    return respond(simulator.call("management", request.path, authorised))


def _add_nodes(graph: Blueprint, simulator: Simulator) -> None:
    management, media = simulator.management, simulator.media
    last_number: dict[str, str] = {}  # by token: the number that it requested last

    def list_numbers(account: str, query: Mapping[str, str]) -> dict[str, Any]:
        """A number without an account belongs to the first account that it is looked up in, so that linking works."""
        if number := last_number.get(_authorise(simulator)):
            simulator.registry.set_default_account(number, account)
        return management.numbers(account, query, request.base_url)

    def describe_node(name: str, fields: str | None) -> dict[str, Any]:
        last_number[_authorise(simulator)] = name
        return management.node(name, fields)

    @graph.get("/<version>/<int:node>")
    def show(node: int) -> Response:
        name = str(node)
        if not is_media_id(name):
            return _managed(simulator, node, describe_node, request.args.get("fields"))

        def describe_media() -> dict[str, Any]:
            _authorise(simulator)
            return media.described(media.find(name), request.host_url.rstrip("/"))

        return respond(simulator.call("media", name, describe_media))

    @graph.get("/<version>/<int:node>/phone_numbers")
    def phone_numbers(node: int) -> Response:
        return _managed(simulator, node, list_numbers, request.args)


def _add_lists(graph: Blueprint, simulator: Simulator) -> None:
    management, groups, coexistence = simulator.management, simulator.groups, simulator.coexistence

    @graph.get("/<version>/<int:node>/message_templates")
    def message_templates(node: int) -> Response:
        return _managed(simulator, node, management.templates, request.args, request.base_url)

    @graph.get("/<version>/<int:node>/groups")
    def list_groups(node: int) -> Response:
        return _managed(simulator, node, groups.page, request.args, request.base_url)

    @graph.post("/<version>/<int:node>/groups")
    def create_group(node: int) -> Response:
        return _managed(simulator, node, groups.create, sent_fields())

    @graph.post("/<version>/<int:node>/smb_app_data")
    def synchronise(node: int) -> Response:
        def answered(number: str) -> dict[str, Any]:
            answer, updates = coexistence.synchronise(number, sent_fields())
            simulator.publish(updates)
            return answer

        return _managed(simulator, node, answered)


def _add_customers(graph: Blueprint, simulator: Simulator) -> None:
    profiles, block_lists = simulator.profiles, simulator.block_lists

    @graph.get("/<version>/<int:node>/whatsapp_business_profile")
    def profile(node: int) -> Response:
        return _managed(simulator, node, profiles.describe, request.args.get("fields"))

    @graph.post("/<version>/<int:node>/whatsapp_business_profile")
    def change_profile(node: int) -> Response:
        return _managed(simulator, node, profiles.change, sent_fields())

    @graph.get("/<version>/<int:node>/block_users")
    def blocked_users(node: int) -> Response:
        return _managed(simulator, node, block_lists.page, request.args, request.base_url)

    @graph.post("/<version>/<int:node>/block_users")
    def block(node: int) -> Response:
        return _managed(simulator, node, block_lists.block, sent_fields())

    @graph.delete("/<version>/<int:node>/block_users")
    def unblock(node: int) -> Response:
        return _managed(simulator, node, block_lists.unblock, sent_fields())


def _add_subscriptions(graph: Blueprint, simulator: Simulator) -> None:
    management = simulator.management

    @graph.get("/<version>/<int:node>/subscribed_apps")
    def subscribed_apps(node: int) -> Response:
        return _managed(simulator, node, management.subscriptions)

    @graph.post("/<version>/<int:node>/subscribed_apps")
    def subscribe(node: int) -> Response:
        return _managed(simulator, node, management.subscribe, sent_fields())

    @graph.delete("/<version>/<int:node>/subscribed_apps")
    def unsubscribe(node: int) -> Response:
        return _managed(simulator, node, management.unsubscribe)


def _add_signup(graph: Blueprint, simulator: Simulator) -> None:
    management = simulator.management

    @graph.get("/<version>/debug_token")
    def debug_token() -> Response:
        if not request.args.get("input_token"):
            raise GraphError(100, "input_token is required")
        return _managed(simulator, None, management.debug_token, request.args["input_token"])

    @graph.route("/<version>/oauth/access_token", methods=["GET", "POST"])
    def exchange() -> Response:
        fields = request.args.to_dict() | sent_fields()
        return respond(simulator.call("management", request.path, lambda: management.exchange(fields)))

    @graph.post("/<version>/<int:node>/register")
    def register(node: int) -> Response:
        return _managed(simulator, node, management.register, sent_fields())

    @graph.post("/<version>/<int:node>/deregister")
    def deregister(node: int) -> Response:
        return _managed(simulator, node, management.deregister)
