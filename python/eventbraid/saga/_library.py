"""The declarations that a coordinator knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.errors import GraphMismatch, InvalidArgument
from eventbraid.saga._graph import graph_difference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventbraid.saga._definition import Saga
    from eventbraid.saga._progress import Progress


class Library:
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

    def has(self, saga: Saga[Any]) -> bool:
        """Tell whether this very declaration is known."""
        return self._sagas.get((saga.name, saga.version)) is saga

    def find(self, progress: Progress) -> Saga[Any] | None:
        """Give the declaration of a recorded saga, if its version is known."""
        return self._sagas.get((progress.saga, progress.version))

    def check_graphs(self, unfinished: Iterable[Progress]) -> None:
        """Refuse to drive sagas that were started with other steps.

        Raises:
            GraphMismatch: Names the first saga and how its graphs differ.
        """
        others: dict[tuple[str, int, str], list[Progress]] = {}
        for progress in unfinished:
            saga = self.find(progress)
            if saga is not None and saga.graph_hash != progress.graph_hash:
                key = progress.saga, progress.version, progress.graph_hash
                others.setdefault(key, []).append(progress)
        for (name, version, _), mismatched in others.items():
            declared = self._sagas[name, version].graph
            raise GraphMismatch(
                name,
                version,
                [progress.id for progress in mismatched],
                graph_difference(mismatched[0].graph, declared),
            )
