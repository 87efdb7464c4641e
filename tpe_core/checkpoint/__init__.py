"""Checkpoints with an intervention baked in: what is written, which weights, and how the result is verified."""
