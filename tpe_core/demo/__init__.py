"""The bundled model: its text, its training recipe, its weights and its card."""
