"""Bulk load: 69,659 real purchases, one event each, a stream a customer.

    python -m eventbraid.examples.ingest_orders STORE --commit-size 1000

| file | what stands in it |
|---|---|
| `history.py` | the event, and the purchases cut into commits |
| `load.py` | append them, many commits in flight; safe to kill and to repeat |
| `read_back.py` | read every stream again: is all of it there, to the cent? |
| `progress.py` | a bar on a terminal, plain lines elsewhere |
| `report.py` | what is printed when it is done |
| `__main__.py` | all of it from the command line |
"""
