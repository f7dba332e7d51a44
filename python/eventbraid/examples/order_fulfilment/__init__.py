"""Order fulfilment: how an application on Eventbraid looks, one file a concept.

| file | content |
|---|---|
| `values.py` | the values of the domain: ids, money, addresses; never invalid |
| `orders.py` `payments.py` `inventory.py` `shipments.py` | events, states, commands |
| `immutable_map.py` | a map for states with an entry for each event |
| `services/` | gateway, carrier, notifier: protocols, and simulations that fail |
| `fulfilment.py` | the saga: its steps, their compensations, failure handling |
| `notifications.py` | later attempts to deliver messages that failed at first |
| `reconciliation/` | does the log agree with the ledgers, key by key? |
| `purchases.py` `catalogue.py` | real purchases, and the orders made from them |
| `demo.py` | all of it on a durable log; it may be killed and started again |
| `coordinators.py` `coordinator.py` | the demo with several processes on one store |
"""
