"""The inspector's widgets, each drawing its own lines and repainting only cells that changed."""
