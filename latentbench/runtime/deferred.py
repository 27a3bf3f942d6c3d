"""A slow import put off until somebody needs the module.

`importlib.util.LazyLoader` does not hold here: the statement `import torch` itself looks at the
module's `__spec__`, and any look at an attribute makes it load. A plain stand-in survives that.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class StandIn(ModuleType):
    """Stands under a module's name; the first attribute asked for puts the module in its place."""

    def __getattr__(self, attribute: str) -> Any:
        return getattr(settle(self.__name__), attribute)


def defer(name: str) -> None:
    """Let `import name` succeed at once; nothing happens where it is imported already."""
    sys.modules.setdefault(name, StandIn(name))


def settle(name: str) -> ModuleType:
    """Import a deferred module for good, and hand it to all who hold its stand-in."""
    stand_in = sys.modules.get(name)
    if not isinstance(stand_in, StandIn):
        return importlib.import_module(name)
    del sys.modules[name]
    module = importlib.import_module(name)
    for holder in list(sys.modules.values()):
        if getattr(holder, "__dict__", {}).get(name) is stand_in:
            setattr(holder, name, module)
    return module
