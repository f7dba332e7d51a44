"""Lazy loading of the public names: a layer is imported when one of its names is used.

`import eventbraid` loads the errors, the domain values and the events; a program that
only appends never loads the sagas, and one that opens no store never loads asyncio.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from eventbraid.event._registry import defer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

# In the order of their imports: a layer imports only layers that precede it here, so
# the search for a name loads hardly more than the name needs.
LAYERS = ("errors", "domain", "event", "store", "command", "lease", "saga")

# These layers register event types of their own, which must be decodable, and must be
# refused to other classes, before the layer has been used for the first time.
_EVENT_TYPES = {"lease.": "eventbraid.lease", "saga.": "eventbraid.saga"}


def lazy_names(
    package: dict[str, object], names: Collection[str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return a package's `__getattr__` and `__dir__`, which load its layers on demand.

    Args:
        package: The namespace of the package. A name is stored there when it has been
            loaded, so that only its first use calls `__getattr__`.
        names: The public names that the layers define.
    """
    prefix = package["__name__"]
    public = frozenset(names)

    def load(name: str) -> object:
        if name in LAYERS:
            # `eventbraid.saga` works after `import eventbraid`, as if it were loaded.
            return import_module(f"{prefix}.{name}")
        if name in public:
            for layer in LAYERS:
                module = import_module(f"{prefix}.{layer}")
                if hasattr(module, name):
                    found: object = getattr(module, name)
                    package[name] = found
                    return found
        raise AttributeError(f"module {prefix!r} has no attribute {name!r}")

    def list_names() -> list[str]:
        return sorted({*package, *LAYERS, *public})

    return load, list_names


for _types, _module in _EVENT_TYPES.items():
    defer(_types, _module)
