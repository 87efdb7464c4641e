"""Pruning with evidence: orders, replacements, sweeps, forecasts, budgets."""
