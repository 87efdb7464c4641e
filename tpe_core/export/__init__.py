"""Edits written for other runtimes: what each format can hold of an edit, the writers, and their checks."""
