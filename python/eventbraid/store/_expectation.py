"""What an append may demand of a stream."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from eventbraid.errors import StreamCondition

ANY: Final[Literal[StreamCondition.ANY]] = StreamCondition.ANY
"""Whatever the stream's version is: the stream only takes part in the commit."""

NO_STREAM: Final[Literal[StreamCondition.NO_STREAM]] = StreamCondition.NO_STREAM
"""The stream has no events yet."""

EXISTS: Final[Literal[StreamCondition.EXISTS]] = StreamCondition.EXISTS
"""The stream has at least one event."""

Expectation: TypeAlias = int | StreamCondition
"""An exact version (0 = no events yet), `ANY`, `NO_STREAM` or `EXISTS`."""
