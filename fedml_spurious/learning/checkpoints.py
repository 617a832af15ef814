"""Weights on disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import write_bytes
from fedml_spurious.learning.state_dicts import State, load_state, state_mismatch


def load_checked(model: nn.Module, state: State, path: Path) -> None:
    """Load a state dictionary that was read from ``path``.

    Raises:
        InputError: it is of another architecture.
    """
    mismatch = state_mismatch(model, state)
    if mismatch:
        raise InputError(
            f"{path}: holds another architecture: {mismatch}. Use the model_args it was trained with, or "
            "give another --output"
        )
    load_state(model, state)


def save_tensors(path: Path, content: Any) -> None:
    """Write tensors and plain values atomically, loadable with ``weights_only=True``."""
    # Through memory, because torch reports a full disk as an error of its own zip writer.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def load_tensors(path: Path) -> Any:
    """Read what :func:`save_tensors` wrote.

    Raises:
        InputError: the file is broken or holds something else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        raise InputError(
            f"{path}: cannot be read as a checkpoint ({type(error).__name__}); remove the file to start this "
            "part again"
        ) from error
