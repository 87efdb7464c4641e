"""Text: where it comes from, and the blocks of token ids that are made of it."""
