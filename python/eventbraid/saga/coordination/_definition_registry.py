"""The declarations that a coordinator knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from eventbraid.errors import GraphMismatch, InvalidArgument
from eventbraid.saga.definition._declaration import declaration_of
from eventbraid.saga.definition._graph import graph_difference

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eventbraid.saga.definition._declaration import Declaration
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.machine._progress import Progress


class DefinitionRegistry:
    """Sagas by their name and version."""

    __slots__ = ("_sagas",)

    def __init__(self, sagas: Iterable[Saga[Any]]) -> None:
        """Take in the sagas.

        Raises:
            InvalidArgument: Two of them have one name and version.
        """
        self._sagas: dict[tuple[str, int], Saga[Any]] = {}
        for saga in sagas:
            key = saga.name, saga.version
            if key in self._sagas:
                raise InvalidArgument(
                    "sagas",
                    f"{saga.name} version {saga.version}",
                    "it is given twice; give each version once",
                )
            self._sagas[key] = saga

    def declarations(self) -> frozenset[Declaration]:
        """Return what the sagas are known by in the log."""
        return frozenset(map(declaration_of, self._sagas.values()))

    def contradicts(self, needed: Declaration) -> bool:
        """Return whether its version is known with another graph."""
        saga = self._sagas.get((needed.saga, needed.version))
        return saga is not None and saga.graph_hash != needed.graph_hash

    def has(self, saga: Saga[Any]) -> bool:
        """Tell whether this very declaration is known."""
        return self._sagas.get((saga.name, saga.version)) is saga

    def find(self, progress: Progress) -> Saga[Any] | None:
        """Give the declaration of a recorded saga, if its version is known."""
        return self._sagas.get((progress.saga, progress.version))

    def refuse(self, progress: Progress, saga_ids: Sequence[str]) -> NoReturn:
        """Refuse sagas that were started with other steps.

        Args:
            progress: One of them.
            saga_ids: All of them.

        Raises:
            GraphMismatch: Names the sagas and how the graphs differ.
        """
        name, version = progress.saga, progress.version
        declared = self._sagas[name, version].graph
        difference = graph_difference(progress.graph, declared)
        raise GraphMismatch(name, version, saga_ids, difference)
