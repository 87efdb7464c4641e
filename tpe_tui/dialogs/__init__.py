"""Dialogs: questions, choices, and pages of text."""
