"""The log-linear law: the regression, principal components, outliers, static bias, under-trained tokens, geometry."""
