"""Drives one saga: its attempts, its compensations, and its journal."""
