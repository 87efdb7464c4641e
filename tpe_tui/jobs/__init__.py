"""The list of jobs: what runs, what is queued behind it, and what the ended ones came to."""
