"""Speed and memory, each beside what a user would use instead, in one run: ``python -m benchmarks``."""
