"""The pruning study: a sweep of orders and mask sizes, its curves and its table."""
