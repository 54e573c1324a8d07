"""Adds WhatsApp Web to the application: the page that browsers open at /_wa/, controls at /_sandbox/wa/."""

from flask import Flask

from services.sandbox.web import client_routes, control
from services.sandbox.web.network import Network


def register(app: Flask, network: Network) -> None:
    """Add the routes."""
    app.register_blueprint(client_routes.blueprint(network), url_prefix=client_routes.PREFIX)
    app.register_blueprint(control.blueprint(network), url_prefix=control.PREFIX)
