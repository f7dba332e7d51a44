"""`python -m eventbraid` is the command `eventbraid`."""

from __future__ import annotations

from eventbraid.cli import main

main()
