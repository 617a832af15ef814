"""What the tests of several processes share."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def tiny(tiny: dict[str, Any]) -> dict[str, Any]:
    """With a network that is slow enough to be hit in the middle."""
    tiny["model_args"]["model"] = "cnn_28x28"
    return tiny
