"""Weights on disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedml_spurious.common.checksums import remedy
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import read_unchanged, write_bytes
from fedml_spurious.learning.state_dicts import load_state, state_mismatch


def load_checked(model: nn.Module, state: Any, path: Path) -> None:
    """Load a state dictionary that was read from ``path``.

    Raises:
        InputError: it is none, or is of another architecture.
    """
    require_state(model, state, path)
    load_state(model, state)


def require_state(model: nn.Module, state: Any, path: Path) -> None:
    """Make sure that what was read from ``path`` is a state dictionary of this network.

    Raises:
        InputError: it is none, or is of another architecture.
    """
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) and value.layout is torch.strided
        for name, value in state.items()
    ):
        raise InputError(f"{path}: holds no weights; expected tensors by name; {remedy(path)}")
    mismatch = state_mismatch(model, state) or _type_mismatch(model, state)
    if mismatch:
        raise InputError(
            f"{path}: holds another architecture: {mismatch}. Use the model_args it was trained with, or "
            "give another --output"
        )


def _type_mismatch(model: nn.Module, state: dict[str, Tensor]) -> str:
    for name, value in model.state_dict().items():
        if state[name].dtype != value.dtype:
            return f"{name} is {state[name].dtype}, expected {value.dtype}"
    return ""


def save_tensors(path: Path, content: Any) -> None:
    """Write tensors and plain values atomically, loadable with ``weights_only=True``."""
    # Through memory, because torch reports a full disk as an error of its own zip writer.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def load_tensors(path: Path) -> Any:
    """Read what :func:`save_tensors` wrote.

    Raises:
        InputError: the file cannot be read, is broken, or is not what its run wrote.
    """
    content = read_unchanged(path)
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        raise InputError(
            f"{path}: cannot be read as a checkpoint ({type(error).__name__}); {remedy(path)}"
        ) from error
