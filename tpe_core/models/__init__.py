"""Models: found, fetched, placed, opened; their head probed; their hidden states taken."""
