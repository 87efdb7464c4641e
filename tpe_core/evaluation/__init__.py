"""Downstream evaluation of an edited model with lm-evaluation-harness."""
