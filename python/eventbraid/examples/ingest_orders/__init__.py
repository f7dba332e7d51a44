"""Bulk load: 69,659 real purchases, one event each, one stream per customer.

    python -m eventbraid.examples.ingest_orders STORE --commit-size 1000

Needs the extra `cli`: ``pip install 'eventbraid[cli]'``.

| file | content |
|---|---|
| `history.py` | the event, and the purchases divided into commits |
| `load.py` | append them, many commits in flight; safe to kill and to repeat |
| `read_back.py` | read every stream, and compare counts and sums |
| `progress.py` | a bar on a terminal, plain lines elsewhere |
| `report.py` | the printed result |
| `__main__.py` | the command line |
"""
