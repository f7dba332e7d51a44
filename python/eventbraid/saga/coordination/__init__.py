"""How coordinators share the sagas of a store: shards, workers, and the log."""
