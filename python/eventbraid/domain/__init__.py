"""Domain values: illegal ones can't be constructed, decoded or stored."""

from __future__ import annotations

from eventbraid.domain._id import Id
from eventbraid.domain._int import Int
from eventbraid.domain._text import Text
from eventbraid.domain._value import value_object

__all__ = ["Id", "Int", "Text", "value_object"]
