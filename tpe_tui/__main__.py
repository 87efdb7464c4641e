"""`python -m tpe_tui` is `tpe`."""

import sys

from tpe_tui.cli.main import main

sys.exit(main())
