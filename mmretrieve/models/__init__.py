"""Models that encode all modalities of a video in one context. Needs the extra ``clamr``."""
