"""Vocabularies of draft models for speculative decoding: which rows of the head to keep, and what they hold."""
