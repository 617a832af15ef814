"""UW against the law of its draws."""

from __future__ import annotations

import numpy as np
import pytest
from client_views import make, view
from scipy import stats
from torch import Tensor, nn

from fedml_spurious.common.seeds import Purpose, generator
from fedml_spurious.personalization.base import Batch
from fedml_spurious.personalization.upweighting import UpWeighting


@pytest.mark.parametrize("conflicting", [1, 3, 40])
def test_groups_are_equally_likely_and_members_uniform_within_them(conflicting: int) -> None:
    """50 draws a time, 200 times; the law: 1/2 to each group, shared evenly by its members."""
    given, method = view(50, conflicting=conflicting), make("uw")
    draws = [method.sequence(given, generator(0, Purpose.PERSONAL_BATCHES, epoch)) for epoch in range(200)]
    counts = np.bincount(np.concatenate(draws), minlength=50)
    groups = [counts[:conflicting].sum(), counts[conflicting:].sum()]
    assert stats.chisquare(groups, [5000, 5000]).pvalue > 0.001
    aligned = 50 - conflicting
    members = np.repeat([5000 / conflicting, 5000 / aligned], [conflicting, aligned])
    assert stats.chisquare(counts, members).pvalue > 0.001


def test_an_epoch_has_as_many_draws_as_there_are_samples() -> None:
    given, method = view(21), make("uw")
    sequence = method.sequence(given, np.random.default_rng(0))
    assert sequence.shape == (21,)
    assert len(set(sequence.tolist())) < 21  # with replacement
    batches: list[int] = []
    method.personalize(given, lambda model, epoch, batch: batches.append(batch))
    assert max(batches) == 3 * 3  # epochs x ceil(21 / 8)


def test_the_loop_trains_on_the_draws() -> None:
    seen: list[float] = []

    class Recording(UpWeighting):
        def loss(self, model: nn.Module, batch: Batch) -> Tensor:
            seen.extend((~batch.aligned).float().tolist())
            return super().loss(model, batch)

    given = view(100, conflicting=2, epochs=20)
    Recording(make("uw").settings).personalize(given)
    assert len(seen) == 2000
    assert stats.binomtest(int(sum(seen)), 2000, 0.5).pvalue > 0.001
