"""`python -m vprism_pipelines.serving.cli`: the same as the command `vprism`."""

import sys

from vprism_pipelines.serving.cli import main

sys.exit(main())
