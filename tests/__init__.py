"""While pytest imports everything, no search for cycles: all of it stays. `conftest.py` turns it on again."""

import gc
import sys

if "pytest" in sys.modules:
    gc.disable()
