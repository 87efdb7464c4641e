"""The edits as a screen: every step of undo and every named edit, with what each does."""
