"""The generation study: paired continuations with and without an edit."""
