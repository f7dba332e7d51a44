"""Taking orders over HTTP: several web workers and a coordinator on one store.

| file | what stands in it |
|---|---|
| `__main__.py` | starts the web server and its worker processes |
| `app.py` | the application: its routes, and the store that a worker opens |
| `placing.py` | `POST /orders`: one command under the client's idempotency key |
| `intake.py` | what a request must be like: key, body, place in a stream |
| `problems.py` | every refusal, and every error of the store, as a problem report |
| `serving.py` | what a worker holds while it serves |
| `following.py` | `GET /orders/...`: where an order stands, once or live |
| `story.py` | what of an order's records is told to its customer |
| `doorbell.py` | wakes those who follow an order: one subscription a worker |
| `ending.py` | ends the live streams when the server is asked to end |
| `coordinator.py` | fulfils what was ordered, in a process of its own |
| `fulfilling.py` | a saga for each order that was taken |
| `bookmark.py` | up to where the orders have their sagas |

What an order is, and the saga that fulfils it, is that of
`eventbraid.examples.order_fulfilment` as it stands. Needs the extra `web`:
``pip install 'eventbraid[web]'``.
"""
