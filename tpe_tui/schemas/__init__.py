"""JSON Schemas of the `--json` documents, written by ``python -m tests.json_schemas``."""
