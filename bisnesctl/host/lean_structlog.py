"""Imports structlog without rich. The packages of the processes that supervisord runs import this module first.

structlog imports rich if it is there, for tracebacks on a terminal. In a process that logs to a file, that would be 5
MB of memory and 40 ms of its start.
"""

import sys
from typing import Any

_modules: dict[str, Any] = sys.modules
if "rich" not in _modules:
    _modules["rich"] = None  # makes its import fail
    try:
        import structlog  # noqa: F401
    finally:
        del _modules["rich"]
