"""Vectors of texts and of tokens that need no recurrent network."""
