"""What the tests of several processes share."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def tiny(tiny: dict[str, Any]) -> dict[str, Any]:
    """With 186,000 weights, as ``cnn_28x28`` has at a width of 8: what travels stays as large."""
    tiny["model_args"]["fc_width"] = 233
    return tiny
