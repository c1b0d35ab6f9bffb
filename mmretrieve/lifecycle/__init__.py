"""What is to be done about files that came, changed, moved or went, and what may be used again."""
