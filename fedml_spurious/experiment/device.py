"""The device of a run, with the threads and the determinism that go with it."""

from __future__ import annotations

import os

import torch

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.words import counted
from fedml_spurious.config.settings import Settings


def choose_device(settings: Settings) -> torch.device:
    """The device that the settings ask for, with the threads and the determinism that go with it.

    Raises:
        InputError: a GPU is asked for that is not there.
    """
    chosen = settings.device_args
    if chosen.threads is not None:
        torch.set_num_threads(chosen.threads)
    if not chosen.using_gpu:
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if chosen.gpu_id >= count:
        found = f"{counted(count, 'GPU')}, numbered from 0" if count else "no CUDA GPU"
        raise InputError(
            f"device_args.using_gpu: GPU {chosen.gpu_id} is asked for, but torch finds {found} on this "
            "machine; add --set device_args.using_gpu=false (to all processes of a run), or choose another "
            "device_args.gpu_id"
        )
    # The same bytes on the same GPU need deterministic kernels; cuBLAS reads this before its first use.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # No kernel of ours reads memory before it is written; filling it first is a launch per tensor.
    deterministic = torch.utils.deterministic
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch hides it
    return torch.device("cuda", chosen.gpu_id)
