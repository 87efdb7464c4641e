"""Training on from an edited model and from the unedited one, on the same batches: whether an edit stays sound."""
