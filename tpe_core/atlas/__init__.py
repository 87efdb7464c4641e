"""The token atlas: worst fitted, never seen, barely trained, unreachable and entangled tokens of an output head."""
