"""A training suite: its checkpoints, their weight files, and which tensor of them is the head."""
