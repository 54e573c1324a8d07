"""The context of the request that is being answered."""

from flask import Flask, current_app

from services.api.context import Context

_EXTENSION = "bisnes"


def attach(app: Flask, context: Context) -> None:
    """Serve the application's requests with this context."""
    app.extensions[_EXTENSION] = context


def context() -> Context:
    """The application's context."""
    found: Context = current_app.extensions[_EXTENSION]
    return found
