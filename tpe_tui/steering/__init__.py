"""The steering study: doses, their effects, and the search for tokens."""
