"""Readers of test collections in the layouts in which they are published."""
