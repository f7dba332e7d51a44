"""Reconciliation of the shop's log with the ledgers of gateway and carrier.

`books.py` folds the log, `statements.py` the ledgers, `rules.py` compares the two, and
`verdict.py` has the result.
"""
