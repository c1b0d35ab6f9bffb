"""``faults``: end, starve and trip everything that writes to an index, at every call; nothing may be lost."""
