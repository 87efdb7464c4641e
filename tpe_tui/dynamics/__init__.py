"""Training dynamics: how the encoding appears over checkpoints."""
