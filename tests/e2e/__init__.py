"""The real program in a real terminal, and without one."""
