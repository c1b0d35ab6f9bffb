"""Fitting and training of what ships as weights, by scripts."""
