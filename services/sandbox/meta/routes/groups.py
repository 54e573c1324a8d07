"""The Graph API's routes of single groups. `<group>` is the id of a group, which has letters."""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, request
from werkzeug.wrappers import Response

from services.sandbox.control_requests import sent_fields
from services.sandbox.meta.routes.answers import respond
from services.sandbox.meta.simulator import Simulator


def add_groups(graph: Blueprint, simulator: Simulator, authorise: Callable[[str], object]) -> None:
    """Add the routes. `authorise` raises `GraphError` unless the request's token may see a number."""
    groups = simulator.groups

    def managed(group: str, work: Callable[..., dict[str, Any]], *arguments: Any) -> Response:
        def authorised() -> dict[str, Any]:
            authorise(groups.find(group)["number"])
            return work(group, *arguments)

        return respond(simulator.call("management", request.path, authorised))

    @graph.get("/<version>/<group>")
    def show_group(group: str) -> Response:
        return managed(group, groups.describe, request.args.get("fields"))

    @graph.post("/<version>/<group>")
    def change_group(group: str) -> Response:
        return managed(group, groups.change, sent_fields())

    @graph.delete("/<version>/<group>")
    def delete_group(group: str) -> Response:
        return managed(group, groups.delete)

    @graph.get("/<version>/<group>/invite_link")
    def invite_link(group: str) -> Response:
        return managed(group, groups.invite_link)

    @graph.post("/<version>/<group>/invite_link")
    def renew_invite_link(group: str) -> Response:
        return managed(group, groups.invite_link, True)

    @graph.delete("/<version>/<group>/participants")
    def remove_participants(group: str) -> Response:
        return managed(group, groups.remove_participants, sent_fields())
