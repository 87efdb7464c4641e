"""The log-linear law: the regression, principal components, and what stands beside them."""
