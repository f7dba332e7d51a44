"""Roles: what one at a time does of all who share a store."""

from __future__ import annotations

from eventbraid.role._role import AsyncRole, Role

__all__ = ["AsyncRole", "Role"]
