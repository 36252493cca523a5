"""One thread for BLAS, OpenMP and intsim: they read these variables when first imported, so this comes before them."""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "INTSIM_THREADS"):
    os.environ.setdefault(_name, "1")
