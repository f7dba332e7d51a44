"""System streams: their ids begin with ``$``, and only the library writes to them.

Appends of other events than those of `system_event` to a system stream are refused.
"""

from __future__ import annotations

from eventbraid._native import system_event

__all__ = ["system_event"]
