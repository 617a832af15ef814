"""What a pass of the network keeps in memory, and the errors of a machine that has too little of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedml_spurious.common.blame import describe
from fedml_spurious.common.errors import RunError
from fedml_spurious.learning.client_data import Labelled

# What torch says where it has no class for it: the driver, its libraries, and the allocator of the CPU.
_WORDS = ("CUDA error: out of memory", "ALLOC_FAILED", "can't allocate memory")
_SENTENCES = 3  # of torch's message; the others advise on its allocator
_LOWER = "lower train_args.batch_size and personalization_args.batch_size or model_args.fc_width"


class OutOfMemoryError(RunError):
    """The GPU or this machine has not enough memory for what was timed."""


@contextmanager
def memory_suffices() -> Iterator[None]:
    """Say in one line that there is not enough memory, also where a user's own network met that.

    Raises:
        OutOfMemoryError: there is not enough.
    """
    try:
        yield
    except Exception as error:
        lack = next((one for one in (error, error.__cause__) if one is not None and _is_lack(one)), None)
        if lack is None:
            raise
        raise OutOfMemoryError(_in_a_line(lack)) from error


def _is_lack(error: BaseException) -> bool:
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    if not isinstance(error, RuntimeError) or isinstance(error, RunError):  # ours tells of another
        return False
    return any(words in str(error) for words in _WORDS)


def _in_a_line(lack: BaseException) -> str:
    if isinstance(lack, torch.cuda.OutOfMemoryError) or "CUDA" in str(lack):
        first = next(iter(str(lack).splitlines()), type(lack).__name__)
        said = ". ".join(first.split(". ")[:_SENTENCES])
        return (
            f"GPU: it has not enough memory for the steps of this run ({said}); {_LOWER}, let fewer workers "
            "share it (device_args.worker_gpus), or end other programs on it"
        )
    return (
        f"memory: there is not enough for the steps of this run ({describe(lack)}); {_LOWER}, start fewer "
        "processes, or end other programs"
    )


def bytes_of_an_image(model: nn.Module, samples: Labelled) -> float:
    """What a training pass keeps until its gradient is there, for one image more in its batch.

    Args:
        model: in the mode in which it trains.
        samples: a batch of B images on the device of the model.

    Returns:
        Bytes: the tensors that autograd saves, but for the model's own, divided by B.
    """
    own = {value.untyped_storage().data_ptr() for value in model.state_dict().values()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # not freed before the loss, so that no place stands for two tensors

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = F.cross_entropy(model(samples.x), samples.y)
    found = sum(size for place, size in kept.items() if place not in own)
    del loss
    return found / len(samples)
