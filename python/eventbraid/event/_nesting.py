"""How deep a body is nested."""

from __future__ import annotations

import re

from eventbraid.domain._schema import MAX_NESTING

_NO_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[^\[\]{}"]+', re.DOTALL)


def is_too_deep(data: bytes, limit: int = MAX_NESTING) -> bool:
    """Return whether more arrays and objects lie inside of each other than allowed.

    Most bodies have too few brackets to be nested so deeply, which is known at once.
    """
    if data.count(b"{") + data.count(b"[") <= limit:
        return False
    depth = 0
    for bracket in _NO_BRACKETS.sub(b"", data):
        if bracket in b"[{":
            depth += 1
            if depth > limit:
                return True
        else:
            depth -= 1
    return False
