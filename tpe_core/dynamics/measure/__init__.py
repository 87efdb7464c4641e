"""What is measured at one training step: the head's fit, token frequencies, loss, and how far weights moved."""
