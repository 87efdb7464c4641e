"""Training dynamics: checkpoints, frequencies, probes of a run under way."""
