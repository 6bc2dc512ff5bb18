"""Plans without torch, for commands that only read a cfg (show, ops).

Specs (keys and shapes) stand beside their torch modules in layers/, so that importing them imports torch: `darkpy ops`
then takes ten times the CPU time (3.0 s instead of .3 s). Specs do not need it: while only they are used, torch's names
stand for an empty class that modules may inherit from and that cannot compute.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")


def run_without_torch(make: Callable[[], T]) -> T:
    """Return `make()`, evaluated without torch unless it is already imported or turns out to be needed."""
    if "torch" in sys.modules:
        return make()
    try:
        with _without_torch():
            return make()
    except _Needed:
        return make()


class _Needed(Exception):
    """Raised when code tries to compute with torch."""


class _Names(type):
    """Every attribute is the empty class again."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing

    def __call__(cls, *arguments: Any, **named: object) -> Any:
        # while rooms are imported, functions of torch are called only for decorators and constants of modules
        return _unchanged


class _Nothing(metaclass=_Names):
    """Stand-in for every name of torch."""


def _unchanged(decorated: T) -> T:
    return decorated


class _Finder(MetaPathFinder, Loader):
    """Finder that provides an empty torch, and remembers the modules that import it."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] == "torch" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Loader of an empty module."""


class _Empty(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


@contextmanager
def _without_torch() -> Iterator[None]:
    """Import without torch; modules imported this way are dropped afterwards and imported again when needed.

    Raises: _Needed in place of what goes wrong where torch itself would have been needed.
    """
    before, finder = set(sys.modules), _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    except (TypeError, AttributeError, ImportError) as error:
        raise _Needed from error
    finally:
        sys.meta_path.remove(finder)
        for name in sys.modules.keys() - before:
            if name.partition(".")[0] in ("torch", "darkpy"):
                del sys.modules[name]
                parent, _, own = name.rpartition(".")
                vars(sys.modules.get(parent, sys)).pop(own, None)
