"""Imports of libraries without those of their modules that our processes never use."""

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Stub(ModuleType):
    """Stands for a module that is left out. Its names are empty classes, for those that inherit from them."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        found = type(name, (), {})
        setattr(self, name, found)
        return found


class _Finder:
    """Finds and loads the stubs. It has no base class: `importlib.abc` would import more than is saved."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Called by Python for each module that is imported."""
        is_left_out = any(name == each or name.startswith(f"{each}.") for each in self._names)
        return ModuleSpec(name, self, is_package=True) if is_left_out else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Called by Python to make the module."""
        return _Stub(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Called by Python to fill the module."""


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Leave these modules, and those below them, out of what is imported meanwhile, unless they are loaded already.

    They can still be imported afterwards, but what was imported within keeps its stubs.
    """
    finder = _Finder([name for name in names if name not in sys.modules])
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, _Stub)]:
            del sys.modules[name]
