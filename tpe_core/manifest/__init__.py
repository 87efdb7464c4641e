"""Intervention manifests: their schema, reading and writing, migration, self-test and comparison."""
