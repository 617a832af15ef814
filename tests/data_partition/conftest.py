from __future__ import annotations

from hypothesis import settings

# Machines that share their cores make the time of a single example meaningless.
settings.register_profile("partition", deadline=None)
settings.load_profile("partition")
