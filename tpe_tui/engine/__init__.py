"""The engine's process side: the host that runs it in a thread, its messages, and the sessions that it serves."""
