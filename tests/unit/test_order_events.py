"""The events of the order application can be read by its next version.

The application keeps the schema of its events in a file, as any application should. A
change that would break the reading of recorded events turns this test red.
"""

from __future__ import annotations

from tests.command_line import ran

APP = "eventbraid.examples.order_fulfilment.shop"


def test_no_change_breaks_the_events_of_the_order_application(repository):
    file = repository / "python/eventbraid/examples/order_fulfilment/events.json"
    done = ran("schema", "check", "--app", APP, "--against", file, "--exact")
    assert done.returncode == 0, done.stdout.decode()
