"""Whether an index is what it promises to be: checks, repair, backup, and what is told about its state."""
