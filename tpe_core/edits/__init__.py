"""Interventions on the head, and what they do to its logits."""
