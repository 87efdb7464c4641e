"""tpe_core: which dimensions of a language model's output embedding encode token probability.

The engine under the inspector. Importing it is cheap; names are resolved on first use, so
that ``import tpe_core`` costs no torch and no transformers.
"""
