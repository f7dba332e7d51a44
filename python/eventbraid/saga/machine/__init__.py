"""The state machine of a saga: pure functions from values to values.

The records are in `_events`. `_fold` folds them into the values of `_progress` and
`_state`. `_decider` makes the decisions: its arguments are in `_outcomes`, and its
rules are in the files whose names end with `_rules`. The next action of a driver
follows from the state alone, by `_next_action`.
"""
