"""Late interaction: maxima per query token and modality, and what makes one score of them."""
