"""Order fulfilment: how an application on Eventbraid looks, one file a concept.

| file | what stands in it |
|---|---|
| `values.py` | the words of the domain: ids, money, addresses; never invalid |
| `orders.py` `payments.py` `inventory.py` `shipments.py` | events, stream, commands |
| `services/` | gateway, carrier, notifier: protocols, and simulations that fail |
| `fulfilment.py` | the saga: steps, what undoes each, what follows a failure |
| `notifications.py` | later attempts at what customers could not be told at once |
| `reconciliation/` | does the log agree with the ledgers, key by key? |
| `purchases.py` `catalogue.py` | real purchases, and how they become orders |
| `demo.py` | all of it at once, on a durable log, to be killed and started again |
"""
