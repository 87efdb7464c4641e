"""Which choices of a model and its training decide how sparse the encoding is: a designed grid of small runs."""
