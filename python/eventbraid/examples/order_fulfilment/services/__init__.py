"""What the shop needs of others: a payment gateway, a carrier, a notifier.

Each is a small protocol, with a simulation that misbehaves by rate and seed. Gateway
and carrier keep a ledger of their own, which reconciliation compares with the log.
"""
