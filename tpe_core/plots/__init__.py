"""Figures of what the engine measured, each drawn from one table and nothing else: `figures` has `draw` and the files.

matplotlib is imported when something is drawn, not before.
"""
