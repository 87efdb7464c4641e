"""What every app of the terminal shares: the terminal itself, theme, input and output, and the saved view."""
