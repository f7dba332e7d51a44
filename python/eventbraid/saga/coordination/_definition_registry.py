"""The declarations of sagas that a coordinator was given."""

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
    """The declarations, by name and version."""

    __slots__ = ("_sagas",)

    def __init__(self, sagas: Iterable[Saga[Any]]) -> None:
        """Register sagas.

        Raises:
            InvalidArgument: Two sagas have the same name and version.
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
        """Return the identities of the declarations, as coordinators record them."""
        return frozenset(map(declaration_of, self._sagas.values()))

    def contradicts(self, needed: Declaration) -> bool:
        """Return whether the same version is registered with a different graph."""
        saga = self._sagas.get((needed.saga, needed.version))
        return saga is not None and saga.graph_hash != needed.graph_hash

    def has(self, saga: Saga[Any]) -> bool:
        """Return whether this object itself is registered."""
        return self._sagas.get((saga.name, saga.version)) is saga

    def find(self, progress: Progress) -> Saga[Any] | None:
        """Return the declaration of a recorded saga; None if it isn't registered."""
        return self._sagas.get((progress.saga, progress.version))

    def refuse(self, progress: Progress, saga_ids: Sequence[str]) -> NoReturn:
        """Raise the error for sagas whose recorded graph differs from the declared one.

        Args:
            progress: The progress of one of them.
            saga_ids: The ids of all of them.

        Raises:
            GraphMismatch: The error names the sagas, and the difference of the graphs.
        """
        name, version = progress.saga, progress.version
        declared = self._sagas[name, version].graph
        difference = graph_difference(progress.graph, declared)
        raise GraphMismatch(name, version, saga_ids, difference)
