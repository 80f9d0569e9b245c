"""Benchmarks that compare the project with other programs: `make bench`. Each process has one thread, set before numpy loads."""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
