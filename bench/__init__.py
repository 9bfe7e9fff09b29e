"""Side-by-side benchmarks: what a user would pick instead, on the same work, in one run. Reports; asserts nothing."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `cli.main` has it; read when numpy is imported
