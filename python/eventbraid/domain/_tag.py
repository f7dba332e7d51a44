"""The tags that distinguish classes in a union."""

from __future__ import annotations

_TAG = "__eventbraid_tag__"


def set_tag(kind: type, tag: str) -> None:
    """Set the tag of a class, unless it has one."""
    if _TAG not in vars(kind):
        setattr(kind, _TAG, tag)


def tag_of(kind: type) -> str | None:
    """Return the tag of a class; None if it has none of its own."""
    tag: str | None = vars(kind).get(_TAG)
    return tag
