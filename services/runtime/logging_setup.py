"""One line an event on standard output, which supervisord writes to the program's log: time, level, event, values."""

import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

import structlog

from bisnesctl.host.log_stream import LastingHandler, Repeats
from bisnesctl.logs import levels

#: The id of the request that is served now; empty outside of requests. Every line that is logged meanwhile has it.
current_request: ContextVar[str] = ContextVar("current_request", default="")


def configure(level: str) -> None:
    """Set up structlog and the standard library's logging alike. `level`: debug, info, warning or error."""
    context: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _add_request_id,
        structlog.stdlib.add_log_level,
    ]
    time = structlog.processors.TimeStamper(fmt="iso")
    render = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *context,
            Repeats(),
            time,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = LastingHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*context, time],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                render,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    levels.apply(level)


def _add_request_id(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if request_id := current_request.get():
        fields.setdefault("request_id", request_id)
    return fields
