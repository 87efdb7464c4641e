"""Models side by side as a screen of its own: its values, its job, its widgets, the app that shows it."""
