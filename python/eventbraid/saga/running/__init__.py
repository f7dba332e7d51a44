"""How one saga is driven: attempts, compensations, and its journal."""
