"""Edits that leave their session: files, hooks, checkpoints, scores on tasks, other revisions."""
