import numpy as np
import pytest
from celeba_raw import make_labels, small_labels
from hypothesis import given, settings
from hypothesis import strategies as st

from data_partition.celeba.clients import (
    ClientPlan,
    deal_identities,
    personalized_clients,
    plan_clients,
    thin_blond_males,
)
from data_partition.celeba.labels import CelebALabels
from fedml_spurious.common.errors import InputError

RATIOS = (72, 8, 20)


@st.composite
def label_tables(draw: st.DrawFn) -> CelebALabels:
    """5 to 200 images of 2 to 12 celebrities, blond males among them."""
    size = draw(st.integers(5, 200))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    identity = rng.integers(1, draw(st.integers(3, 13)), size) * draw(st.integers(1, 3))
    return make_labels(identity, rng.integers(0, 2, size), rng.integers(0, 2, size))


def _federation(labels: CelebALabels, share: int, seed: int) -> tuple[list[ClientPlan], np.ndarray]:
    identities = np.unique(labels.identity)
    shares, left_over = deal_identities(
        identities, num_clients=len(identities) // share, identities_per_client=share, seed=seed
    )
    rows = np.arange(len(labels.male))
    return plan_clients(labels, rows, shares, first_client=0, ratios=RATIOS, seed=seed), left_over


@given(label_tables(), st.integers(1, 3), st.integers(0, 99))
@settings(deadline=None)
def test_every_celebrity_is_on_one_client_with_all_images(
    labels: CelebALabels, share: int, seed: int
) -> None:
    clients, left_over = _federation(labels, share, seed)
    everyone = [*np.concatenate([[], *(plan.identities for plan in clients)]), *left_over]
    assert sorted(everyone) == np.unique(labels.identity).tolist()
    assert len(left_over) < share
    for plan in clients:
        assert len(plan.identities) == share
        expected = [row for row, who in enumerate(labels.identity) if who in plan.identities]
        assert plan.images.tolist() == expected


@given(label_tables(), st.integers(1, 3), st.integers(0, 99))
@settings(deadline=None)
def test_splits_are_disjoint_and_keep_the_ratios(labels: CelebALabels, share: int, seed: int) -> None:
    for plan in _federation(labels, share, seed)[0]:
        parts = [plan.rows[split] for split in ("train", "val", "test")]
        together = np.concatenate(parts)
        assert len(np.unique(together)) == len(together) == len(plan.images)
        for part, ratio in zip(parts, RATIOS, strict=True):
            assert abs(len(part) - len(together) * ratio / 100) < 1


@given(label_tables(), st.integers(0, 99))
@settings(deadline=None)
def test_bias_conflicting_are_the_blond_males_of_the_biased_test_set(labels: CelebALabels, seed: int) -> None:
    for plan in _federation(labels, 2, seed)[0]:
        expected = [row for row in plan.rows["test"] if labels.male[row] == 1 and labels.blond[row] == 1]
        assert plan.rows["test_bc"].tolist() == expected


def test_no_split_of_a_plain_federation_is_empty() -> None:
    """Guards the tests above against empty splits: 30 images a client make 22, 2 and 6."""
    clients, _ = _federation(small_labels(), 3, 0)
    sizes = [[len(plan.rows[split]) for split in ("train", "val", "test")] for plan in clients]
    assert sizes == [[22, 2, 6]] * 4
    assert sum(len(plan.rows["test_bc"]) for plan in clients) > 0


@given(label_tables(), st.integers(0, 99))
@settings(deadline=None)
def test_the_seed_alone_decides(labels: CelebALabels, seed: int) -> None:
    first, again = _federation(labels, 2, seed)[0], _federation(labels, 2, seed)[0]
    for one, other in zip(first, again, strict=True):
        for split in one.rows:
            np.testing.assert_array_equal(one.rows[split], other.rows[split])


def test_another_seed_gives_another_federation() -> None:
    labels = small_labels(40, 10)
    first, other = _federation(labels, 4, 0)[0], _federation(labels, 4, 1)[0]
    assert any(one.images.tolist() != two.images.tolist() for one, two in zip(first, other, strict=True))


def test_too_many_clients_are_refused() -> None:
    with pytest.raises(InputError, match="3 clients of 5 celebrities would take 15, there are 14"):
        deal_identities(np.arange(1, 15), num_clients=3, identities_per_client=5, seed=0)


@given(label_tables(), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, 99))
@settings(deadline=None)
def test_thinning_touches_only_blond_males_of_training_splits(
    labels: CelebALabels, keep: float, seed: int
) -> None:
    for client, plan in enumerate(_federation(labels, 2, seed)[0]):
        thinned = thin_blond_males(plan, labels, keep=keep, client=client, seed=seed)
        for split in ("train", "val"):
            before, after = set(plan.rows[split]), set(thinned.rows[split])
            blond_males = {row for row in before if labels.group[row] == 3}
            assert after <= before
            assert before - after <= blond_males
            # Half up: 0.25 * 2 = 0.5 keeps one.
            assert len(after & blond_males) == int(np.floor(keep * len(blond_males) + 0.5))
        for split in ("test", "test_bc"):
            np.testing.assert_array_equal(thinned.rows[split], plan.rows[split])


def test_blond_males_are_thinned_by_draws_of_the_client_and_the_split() -> None:
    """Those of numpy's seed sequence: seed, the published number of the purpose, client, train 0 or val 1."""
    labels, rows = make_labels([1] * 40, [1] * 40, [1] * 40), np.arange(40)
    empty = rows[:0]
    plan = ClientPlan(np.array([1]), {"train": rows[:20], "val": rows[20:], "test": empty, "test_bc": empty})
    thinned = thin_blond_males(plan, labels, keep=0.25, client=3, seed=5)
    for place, split in enumerate(("train", "val")):
        rng = np.random.default_rng(np.random.SeedSequence([5, 105, 3, place]))
        assert thinned.rows[split].tolist() == sorted(rng.permutation(plan.rows[split])[:5].tolist())


@pytest.mark.parametrize(("females", "males", "chosen"), [(6, 6, True), (5, 6, False), (6, 5, False)])
def test_more_than_five_means_six(females: int, males: int, chosen: bool) -> None:
    labels = make_labels([1] * (females + males), [0] * females + [1] * males, [1] * (females + males))
    rows = np.arange(females + males)
    empty = rows[:0]
    plan = ClientPlan(
        np.array([1]), {"train": rows[:females], "val": empty, "test": rows[females:], "test_bc": empty}
    )
    actual = personalized_clients([plan], labels, train_blond_females_above=5, test_blond_males_above=5)
    assert actual == ([0] if chosen else [])
