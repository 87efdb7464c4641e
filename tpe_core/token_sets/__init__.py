"""Token sets: many tokens named by one definition, such as ``script:Han``, to be steered as one."""
