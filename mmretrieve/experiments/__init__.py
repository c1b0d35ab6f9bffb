"""Experiments on an index: ways of ranking side by side, probes, known items, moments.

Joins the engine, which knows how similar everything is, with the measures of ``evaluation``, which
knows nothing of engines.
"""
