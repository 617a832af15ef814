from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Machines that share their cores make the time of a single example meaningless.
settings.register_profile("partition", deadline=None)
settings.load_profile("partition")


@pytest.fixture
def real_data() -> Path:
    folder = os.environ.get("FEDML_SPURIOUS_DATA")
    if not folder:
        pytest.skip("FEDML_SPURIOUS_DATA names no folder with the real data sets")
    return Path(folder)
