"""Ranking: filters, candidate maxima, documents, moments, evidence, confidence."""
