"""The fit as a screen: every figure about it, every token in it, and the plot of both."""
