"""The state machine of a saga: pure functions from values to values.

The module `_events` has the records. `_fold` folds them into a value of `_progress`,
which is a part of the value of `_state`. `_decider` makes the decisions: its arguments
are in `_outcomes`, and its rules are in the modules whose names end with `_rules`.
`_next_action` computes the next action of a driver from the state alone.
"""
