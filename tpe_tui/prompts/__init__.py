"""Several prompts in a list, each with what the edit does after it."""
