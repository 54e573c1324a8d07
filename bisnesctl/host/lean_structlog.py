"""Imports structlog without what it uses on terminals and in coroutines. The packages of the processes that supervisord
runs import this module first.

structlog imports rich for tracebacks in colours if it is there, and asyncio for methods that are awaited. In a process
that logs to a file, that would be 7 MB of memory and 50 ms of its start.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

_modules: dict[str, Any] = sys.modules


def _deferred(name: str) -> ModuleType:
    """A module that is imported when something of it is used."""
    module = ModuleType(name)
    setattr(module, "__getattr__", lambda attribute: getattr(importlib.import_module(name), attribute))  # noqa: B010
    return module


_replaced = {name: each for name, each in (("rich", None), ("asyncio", _deferred("asyncio"))) if name not in _modules}
if "structlog" not in _modules:
    _modules.update(_replaced)  # the import of a module that is None fails
    try:
        import structlog  # noqa: F401
    finally:
        for each in _replaced:
            del _modules[each]
