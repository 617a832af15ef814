"""The weighted mean of client models, the same bits in whatever order and grouping they are added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from fedml_spurious.learning.state_dicts import State


class WeightedSum:
    """Sum of client models times their numbers of samples: the same bits in whatever order and grouping.

    Floating-point sums depend on their order, and with it on the number of processes. This one carries what
    every addition rounds away (Knuth's two-sum) in a second tensor. The products of a float32 weight and a
    count below 2^29 are exact in double precision, so the sum is exact as long as the clients' values at
    one place differ in magnitude by less than 2^50; :meth:`mean` rounds it once.

    BatchNorm running statistics are summed like weights, complex numbers by their parts. Integer and bool
    buffers (``num_batches_tracked``) are counters or flags, for which a mean has no meaning: the largest is
    kept, as what it is.

    Attributes:
        count: number of samples so far.
        head: the rounded sums by name, in double precision; integer buffers as they are.
        tail: what rounding left out, for the floating-point entries.
        types: types of the clients' tensors.

    Examples:
        Two large models cancel, and rounding in between changes the small one, in double precision too. Here
        it stays what it was, in whatever order they are added.

        >>> clients = [(1, 2.0**46), (2, 0.1), (1, -(2.0**46))]
        >>> sum(count * w for count, w in clients) / 4
        0.05078125
        >>> for order in (clients, clients[::-1]):
        ...     total = WeightedSum()
        ...     for count, w in order:
        ...         total.add(count, {"w": torch.tensor([w])})
        ...     total.mean()
        {'w': tensor([0.0500])}
        {'w': tensor([0.0500])}
    """

    def __init__(self) -> None:
        self.count = 0
        self.head: State = {}
        self.tail: State = {}
        self.types: dict[str, torch.dtype] = {}

    def add(self, count: int, state: Mapping[str, Tensor]) -> None:
        """Add a client's model, whose tensors are left as they are.

        Args:
            count: its number of training samples, at least 1.
            state: its state dictionary.

        Raises:
            ValueError: a count below 1.
        """
        if count < 1:
            raise ValueError(f"expected at least one client, each with at least 1 sample; got count {count}")
        self.count += count
        for name, value in state.items():
            self.types.setdefault(name, value.dtype)
            if value.is_complex():
                self._accumulate(name, torch.view_as_real(value.resolve_conj()), count)
            elif value.is_floating_point():
                self._accumulate(name, value, count)
            else:
                self._keep_largest(name, value)

    def merge(self, other: WeightedSum) -> None:
        """Add another sum, which is left as it is."""
        self.count += other.count
        for name, value in other.head.items():
            self.types.setdefault(name, other.types[name])
            if name in other.tail:
                self._accumulate(name, value, 1)
                self.tail[name] += other.tail[name]
            else:
                self._keep_largest(name, value)

    def mean(self) -> State:
        """The weighted average: new tensors with the types of the clients'.

        Raises:
            ValueError: nothing was added.
        """
        if not self.count:
            raise ValueError("expected at least one client, each with at least 1 sample; got none")
        return {name: self._mean_of(name, value) for name, value in self.head.items()}

    def _mean_of(self, name: str, value: Tensor) -> Tensor:
        if name not in self.tail:
            return value.clone()
        kind = self.types[name]
        mean = torch.empty_like(value, dtype=_real(kind))
        for out, head, tail in _chunks(mean, value, self.tail[name]):
            _divide(head, tail, self.count, out)
        return torch.view_as_complex(mean) if kind.is_complex else mean

    def _accumulate(self, name: str, value: Tensor, factor: int) -> None:
        if name not in self.head:
            self.head[name] = value.to(torch.float64, copy=True, memory_format=torch.contiguous_format).mul_(
                factor
            )
            self.tail[name] = torch.zeros_like(self.head[name])
            return
        for head, tail, part in _chunks(self.head[name], self.tail[name], value):
            head.copy_(_add_exactly(head, tail, part, factor))

    def _keep_largest(self, name: str, value: Tensor) -> None:
        self.head[name] = torch.maximum(self.head[name], value) if name in self.head else value.clone()


def _real(kind: torch.dtype) -> torch.dtype:
    return kind.to_real() if kind.is_complex else kind


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of the same places of all tensors; those that are written must be contiguous."""
    # On a CPU pieces that stay in its cache through the passes of an exact addition; elsewhere pieces that
    # bound the memory of its terms.
    size = 1 << 15 if tensors[0].device.type == "cpu" else 1 << 24
    return zip(*(torch.split(tensor.contiguous().view(-1), size) for tensor in tensors), strict=True)


def _add_exactly(head: Tensor, tail: Tensor, part: Tensor, factor: int) -> Tensor:
    """The rounded sum of ``head`` and ``part * factor``; what rounding leaves out is added to ``tail``."""
    term = part.to(torch.float64, copy=True).mul_(factor)
    total = head + term
    shifted = total - head
    term -= shifted
    torch.sub(total, shifted, out=shifted)
    torch.sub(head, shifted, out=shifted)
    tail += shifted.add_(term)
    return total


def _divide(head: Tensor, tail: Tensor, count: int, out: Tensor) -> None:
    # As a tensor: by a plain number a GPU multiplies with the reciprocal, whose rounding is another.
    out.copy_((head + tail).div_(torch.full((), count, dtype=head.dtype, device=head.device)))


def average(updates: Sequence[tuple[int, Mapping[str, Tensor]]]) -> State:
    """Average client models, weighted by their numbers of training samples; see :class:`WeightedSum`.

    Args:
        updates: number of training samples (at least 1) and state dictionary of each client; the tensors
            are left as they are.

    Returns:
        A state dictionary of new tensors with the types of the first client's.

    Raises:
        ValueError: no clients, or a count below 1.
    """
    real = {name for _, state in updates[:1] for name, value in state.items() if value.is_floating_point()}
    total = WeightedSum()
    for count, state in updates:
        total.add(count, {name: value for name, value in state.items() if name not in real})
    found = total.mean()
    for name in real:
        found[name] = _mean([(count, state[name]) for count, state in updates])
    return {name: found[name] for name in updates[0][1]}


def _mean(values: Sequence[tuple[int, Tensor]]) -> Tensor:
    """The same bits as a :class:`WeightedSum` gives, piece by piece, so that no sum goes through memory."""
    counts, tensors = [count for count, _ in values], [value for _, value in values]
    mean = torch.empty_like(tensors[0], memory_format=torch.contiguous_format)
    for out, first, *others in _chunks(mean, *tensors):
        head = first.to(torch.float64, copy=True).mul_(counts[0])
        tail = torch.zeros_like(head)
        for count, part in zip(counts[1:], others, strict=True):
            head = _add_exactly(head, tail, part, count)
        _divide(head, tail, sum(counts), out)
    return mean
