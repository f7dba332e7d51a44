"""The loggers of the library, one for each layer, all below ``eventbraid``.

They are silent unless the application configures logging: importing the library adds a
`logging.NullHandler` to its own root logger, and changes nothing else.
"""

from __future__ import annotations

import logging

logging.getLogger("eventbraid").addHandler(logging.NullHandler())

STORE = logging.getLogger("eventbraid.store")
LEASE = logging.getLogger("eventbraid.lease")
COMMAND = logging.getLogger("eventbraid.command")
SAGA = logging.getLogger("eventbraid.saga")
