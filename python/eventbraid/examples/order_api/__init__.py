"""Orders over HTTP: several web workers and a coordinator on one store.

| file | content |
|---|---|
| `__main__.py` | starts the web server and its worker processes |
| `app.py` | the application: its routes, and the store that a worker opens |
| `connections.py` | limits on the connections of a worker, in number and time |
| `placing.py` | `POST /orders`: one command under the client's idempotency key |
| `intake.py` | the validation of a request: key, body, last event id |
| `problems.py` | every refusal, and every error of the store, as a problem report |
| `serving.py` | the objects that a worker's requests share |
| `following.py` | `GET /orders/...`: the status of an order, once or live |
| `story.py` | the records of an order that its customer sees |
| `wakeups.py` | wakes the readers of a live stream: one subscription per worker |
| `ending.py` | ends the live streams when the server is asked to end |
| `coordinator.py` | fulfils the orders, in a process of its own |
| `fulfilling.py` | starts a saga for each order |
| `bookmark.py` | the position up to which each order has its saga |

The orders, and the saga that fulfils them, are those of
`eventbraid.examples.order_fulfilment`. Needs the extra `web`:
``pip install 'eventbraid[web]'``.
"""
