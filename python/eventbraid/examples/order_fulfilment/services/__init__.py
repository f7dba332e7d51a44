"""The services that the shop calls: a payment gateway, a carrier, a notifier.

Each is a small protocol, with a simulation that fails at a rate and by a seed. Gateway
and carrier keep a ledger of their own, which reconciliation compares with the log.
"""
