"""The services: the processes that accept, send and receive messages."""

import bisnesctl.host.lean_structlog  # noqa: F401
