"""The state machine of a saga: pure functions from values to values.

The records are in `_events`, the values that they are folded into in `_progress` and
`_state`, the fold itself in `_fold`. `_decider` makes the decisions: its
arguments are in `_outcomes`, its rules in the files that end with `_rules`. What a
driver does next follows from the state alone, by `_next_action`.
"""
