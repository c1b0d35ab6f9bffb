"""Content and queries to token embeddings."""
