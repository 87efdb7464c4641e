"""Generated text: drawn from base and edited heads on the same noise, and its quality."""
