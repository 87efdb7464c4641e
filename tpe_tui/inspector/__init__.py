"""The inspector: the main screen with its panes and actions."""
