"""The weighted mean of client models, the same bits in whatever order and grouping they are added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
        # As a tensor: by a plain number a GPU multiplies with the reciprocal, whose rounding is another.
        count = torch.full((), self.count, dtype=value.dtype, device=value.device)
        mean, kind = (value + self.tail[name]) / count, self.types[name]
        return (torch.view_as_complex(mean) if kind.is_complex else mean).to(kind)

    def _accumulate(self, name: str, value: Tensor, factor: int) -> None:
        if name not in self.head:
            self.head[name] = value.to(torch.float64, copy=True, memory_format=torch.contiguous_format).mul_(
                factor
            )
            self.tail[name] = torch.zeros_like(self.head[name])
            return
        pairs = zip(*(_chunks(tensor) for tensor in (self.head[name], self.tail[name], value)), strict=True)
        for head, tail, part in pairs:
            term = part.to(torch.float64) * factor
            total = head + term
            shifted = total - head
            tail += (head - (total - shifted)) + (term - shifted)
            head.copy_(total)

    def _keep_largest(self, name: str, value: Tensor) -> None:
        self.head[name] = torch.maximum(self.head[name], value) if name in self.head else value.clone()


def _chunks(tensor: Tensor) -> tuple[Tensor, ...]:
    # On a CPU pieces that stay in its cache through the passes of an exact addition; elsewhere pieces that
    # bound the memory of its terms.
    size = 1 << 15 if tensor.device.type == "cpu" else 1 << 24
    return torch.split(tensor.contiguous().view(-1), size)


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
    total = WeightedSum()
    for count, state in updates:
        total.add(count, state)
    return total.mean()
