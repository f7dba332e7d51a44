"""The declaration of a saga: steps, retries, its graph and its codec."""
