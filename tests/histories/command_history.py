"""The commands that processes executed, and their results, as lines of JSON.

As in `history`, a process writes a line before each execution and one after its result, with
the times of a clock that all processes of a machine share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from tests.histories.bank import Seen
from tests.histories.history import Closed, Opened, StoreFailure


class _Line(msgspec.Struct, frozen=True, tag_field="line"):
    pass


class CommandBegun(_Line, tag="command"):
    """A command is about to be executed."""

    number: int
    worker: int
    at: int
    kind: str
    id: str
    key: str | None = None


class CommandDone(_Line, tag="executed"):
    """The command was executed.

    Attributes:
        seen: The states that an audit decided on; other commands record them in the log.
    """

    number: int
    at: int
    first: int | None
    last: int | None
    versions: dict[str, int]
    replayed: bool
    seen: tuple[Seen, ...] = ()


class CommandRejected(_Line, tag="rejected"):
    """A rule of the command rejected it, on these states."""

    number: int
    at: int
    seen: tuple[Seen, ...]


class CommandFailed(_Line, tag="failed"):
    """The execution raised another error."""

    number: int
    at: int
    kind: str


class StateLoaded(_Line, tag="loaded"):
    """The state of a stream was loaded."""

    worker: int
    invoked: int
    returned: int
    seen: Seen


Answer = CommandDone | CommandRejected | CommandFailed
Line = CommandBegun | Answer | StateLoaded | StoreFailure | Opened | Closed

_LINES = msgspec.json.Decoder(Line)
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Execution:
    """An execution and its result; without a result, its outcome is unknown."""

    process: str
    request: CommandBegun
    answer: Answer | None = None

    @property
    def done(self) -> CommandDone | None:
        return self.answer if isinstance(self.answer, CommandDone) else None

    @property
    def rejected(self) -> CommandRejected | None:
        return self.answer if isinstance(self.answer, CommandRejected) else None

    def __str__(self) -> str:
        return f"{self.request.kind} {self.request.id} of {self.process}"


@dataclass(slots=True)
class CommandHistory:
    """The executions and the loaded states of all processes.

    Attributes:
        executions: The executions.
        loads: The loaded states, each with its process, in the order of each worker.
        failures: The process and the error of each failure of the store.
    """

    executions: list[Execution] = field(default_factory=list)
    loads: list[tuple[str, StateLoaded]] = field(default_factory=list)
    failures: list[tuple[str, StoreFailure]] = field(default_factory=list)

    def add(self, process: str, lines: Iterable[Line]) -> None:
        """Add the lines of one process, in its order."""
        executions: dict[int, Execution] = {}
        for line in lines:
            match line:
                case CommandBegun():
                    executions[line.number] = Execution(process, line)
                case CommandDone() | CommandRejected() | CommandFailed():
                    request = executions[line.number].request
                    executions[line.number] = Execution(process, request, line)
                case StateLoaded():
                    self.loads.append((process, line))
                case StoreFailure():
                    self.failures.append((process, line))
                case Opened() | Closed():
                    pass
        self.executions.extend(executions.values())


def decoded(raw: bytes) -> Iterator[Line]:
    """Decode lines, except a last one that a kill has truncated."""
    whole, _, _ = raw.rpartition(b"\n")
    return map(_LINES.decode, whole.splitlines())
