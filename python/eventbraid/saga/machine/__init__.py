"""The state machine of a saga: its events, its progress, and the decisions. Pure."""
