"""The type of a command of either form."""

from __future__ import annotations

from typing import Any, TypeAlias

from eventbraid.command._command import Command
from eventbraid.command._stateful_command import StatefulCommand

AnyCommand: TypeAlias = Command | StatefulCommand[Any, Any]
"""A command that decides on the states of its streams, or on a state of its own."""
