"""Queries that aim at a modality, made from an indexed library (as CLaMR's MultiVENT 2.0++ was).

Without a language model by distinctive phrases, or with any server that speaks OpenAI's protocol.
"""
