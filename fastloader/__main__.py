"""Run the command line with ``python -m fastloader``."""

import sys

from .cli import main

sys.exit(main())
