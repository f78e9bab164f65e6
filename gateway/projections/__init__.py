"""Read models: tables folded from the journal's events, droppable and rebuildable at any time."""
