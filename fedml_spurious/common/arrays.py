"""Types of arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IndexArray = npt.NDArray[np.int64]
"""Rows, classes or counts."""

FloatArray = npt.NDArray[np.float64]
