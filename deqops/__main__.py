"""`python -m deqops`."""

from __future__ import annotations

import sys

from deqops.cli import main

sys.exit(main())
