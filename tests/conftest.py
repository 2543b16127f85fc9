"""Two workers share two cores: torch's own threads would fight for them, here and in the processes that tests start."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
