"""The reference platform: the other side of the contract, over SQLite; for demos, contract tests and integrators."""
