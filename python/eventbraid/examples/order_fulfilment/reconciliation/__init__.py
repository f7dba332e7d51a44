"""Does the shop's log agree with the ledgers of those that it works with?

`books.py` folds the log, `statements.py` the ledgers, `rules.py` holds one against the
other, and `verdict.py` says what came of it.
"""
