"""Detection: one streaming pass over a text into sums that add up, and samples of hidden states."""
