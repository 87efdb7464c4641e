"""A report on one model: every figure of the paper for it, as a page with its data, sentences and commands."""
