"""Measures of quality: qrels, runs and queries, measures with intervals, tables of them.

Knows records and errors only; what searches comes in as a function (:data:`experiment.Search`).
"""
