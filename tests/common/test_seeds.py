"""Addressed draws are those of NumPy's seed sequences, and the published numbers of purposes stay."""

from __future__ import annotations

import numpy as np
import pytest

from fedml_spurious.common.seeds import Purpose, generator, integer_seed

# Part of every published result.
NUMBERS = {
    "MODEL_INIT": 1, "CLIENT_SAMPLING": 2, "LOCAL_BATCHES": 3, "PERSONAL_BATCHES": 4, "BOOTSTRAP": 5,
    "LOCAL_NOISE": 6, "PERSONAL_NOISE": 7, "PARTITION_CLASSES": 101, "PARTITION_SAMPLES": 102,
    "PARTITION_SPLITS": 103, "PARTITION_COLORS": 104, "PARTITION_CONFLICTS": 105,
    "PARTITION_LABEL_NOISE": 106, "PARTITION_IDENTITIES": 107, "PARTITION_GROUPS": 108,
}  # fmt: skip


def test_no_purpose_has_another_number_than_it_had() -> None:
    found = {purpose.name: purpose.value for purpose in Purpose}
    assert {name: found[name] for name in NUMBERS} == NUMBERS
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize("address", [(), (0,), (7, 0, 2)])
def test_a_draw_is_that_of_its_seed_sequence(address: tuple[int, ...]) -> None:
    sequence = np.random.SeedSequence([5, 3, *address])
    expected = np.random.default_rng(sequence).random(3)
    assert (generator(5, Purpose.LOCAL_BATCHES, *address).random(3) == expected).all()
    # 63 of the 64 bits, so that torch takes it.
    whole = int(np.random.SeedSequence([5, 3, *address]).generate_state(1, np.uint64)[0])
    assert integer_seed(5, Purpose.LOCAL_BATCHES, *address) == whole // 2


def test_every_part_of_an_address_counts() -> None:
    addresses = [
        (seed, purpose, one, other)
        for seed in (0, 1)
        for purpose in (Purpose.LOCAL_NOISE, Purpose.PERSONAL_NOISE)
        for one in (0, 1)
        for other in (0, 1)
    ]
    assert len({integer_seed(*address) for address in addresses}) == 16
    assert len({generator(*address).random() for address in addresses}) == 16
