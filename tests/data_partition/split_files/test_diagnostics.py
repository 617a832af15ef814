"""What the spurious feature tells of the class: closed forms, scikit-learn, and what the commands print."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from data_partition.colored_mnist import Options, build
from data_partition.inspect import command
from data_partition.split_files.diagnostics import client_shortcuts, describe_shortcut, pooled_shortcut
from data_partition.split_files.meta import ClientMeta, SplitMeta, read_meta
from data_partition.split_files.samples import count_groups
from fedml_spurious.cli import main


def described(*clients: tuple[list[int], list[int], dict[int, int]]) -> SplitMeta:
    """Labels, spurious values and map of every client."""
    metas = {
        f"{number:04}": ClientMeta(
            classes=(0, 1, 2),
            color_map=color_map,
            counts={"train": len(label)},
            groups={"train": count_groups(np.array(label), np.array(spurious))},
        )
        for number, (label, spurious, color_map) in enumerate(clients)
    }
    return SplitMeta(
        name="toy", seed=0, options={}, num_classes=3, image_shape=(1, 1, 3), class_names=("a", "b", "c"),
        spurious_names=("red", "green", "blue"), num_clients=len(clients), clients=metas, files={},
    )  # fmt: skip


def test_a_complete_correlation_that_differs_between_clients_is_none_when_pooled() -> None:
    """Three classes, and each in each colour on one of three clients."""
    label = [0, 1, 2] * 4
    maps = [{y: (y + shift) % 3 for y in range(3)} for shift in range(3)]
    meta = described(*((label, [own[y] for y in label], own) for own in maps))
    for one in client_shortcuts(meta).values():
        assert one.information == pytest.approx(math.log2(3))
        assert one.class_entropy == pytest.approx(math.log2(3))
        assert (one.aligned, one.by_feature, one.samples) == (1.0, 1.0, 12)
    pooled = pooled_shortcut(meta)
    assert pooled is not None
    assert pooled.information == pytest.approx(0.0)
    assert pooled.by_feature == pooled.by_nothing == pytest.approx(1 / 3)
    assert pooled.aligned == 1.0


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_information_and_the_best_classifier_against_other_ways(pairs: list[tuple[int, int]]) -> None:
    label, spurious = map(list, zip(*pairs, strict=True))
    (one,) = client_shortcuts(described((label, spurious, {0: 0, 1: 1, 2: 2}))).values()
    assert one.information == pytest.approx(mutual_info_score(label, spurious) / math.log(2), abs=1e-9)
    # Every function of the feature, tried.
    functions = [(a, b, c) for a in range(3) for b in range(3) for c in range(3)]
    best = max(np.mean([f[s] == y for y, s in pairs]) for f in functions)
    assert one.by_feature == pytest.approx(best)
    assert one.aligned == np.mean([y == s for y, s in pairs])
    assert one.information <= one.class_entropy + 1e-9


def test_what_is_printed_by_hand() -> None:
    """Three clients of 2, 4 and 4 samples; entropies of 1/2, 1/4 and so on, in bits."""
    own = {0: 0, 1: 1, 2: 2}
    meta = described(
        ([0, 1], [0, 1], own), ([0, 0, 1, 1], [0, 0, 0, 1], own), ([0] * 4, [1] * 4, own)
    )  # fmt: skip

    def entropy(*shares: float) -> float:
        return -sum(share * math.log2(share) for share in shares)

    of_second = 1 + entropy(1 / 4, 3 / 4) - entropy(1 / 2, 1 / 4, 1 / 4)
    pooled = entropy(0.7, 0.3) + entropy(0.4, 0.6) - entropy(0.3, 0.4, 0.1, 0.2)
    expected = {  # smallest, median and largest of the clients, and all pooled
        "share aligned": (0, 3 / 4, 1, 0.5),
        "entropy of class, bits": (0, 1, 1, entropy(0.7, 0.3)),
        "information, bits": (0, of_second, 1, pooled),
        "right by it alone": (3 / 4, 1, 1, 0.7),
        "right by largest class": (1 / 2, 1 / 2, 1, 0.7),
    }
    *lines, conclusion = describe_shortcut(meta)[2:]
    assert lines == [
        f"{name:22}"
        + "".join(f"{value:{width}.3f}" for value, width in zip(row, (14, 9, 9, 12), strict=True))
        for name, row in expected.items()
    ]
    assert conclusion == (
        "The best classifier that sees it alone is right on 91.7% of a client's samples (mean); one for all "
        "clients on 70.0%, where 70.0% are of the largest class."
    )


def test_without_a_map_aligned_is_what_is_in_no_conflicting_group() -> None:
    meta = described(([0, 0, 1, 1, 1], [0, 1, 0, 1, 1], {}))
    client = meta.clients["0000"].model_copy(update={"color_map": None})
    changed = meta.model_copy(update={"clients": {"0000": client}, "conflicting_groups": ((1, 1),)})
    assert client_shortcuts(changed)["0000"].aligned == 3 / 5
    pooled = pooled_shortcut(changed)
    assert pooled is not None
    assert pooled.aligned == 3 / 5


def test_partition_and_inspect_print_it(tmp_path: Path) -> None:
    arguments = ["--source", "digits", "--clients", "3", "--classes-per-client", "3", "--limit", "180"]
    result = CliRunner().invoke(main, ["partition", "colored_mnist", "--out", str(tmp_path), *arguments])
    assert result.exit_code == 0, result.output
    printed = [line for line in result.output.splitlines() if line.startswith("share aligned")]
    folder = build(
        Options(source="digits", clients=3, classes_per_client=3, limit=180), raw=None, out=tmp_path
    )
    shares = sorted(one.aligned for one in client_shortcuts(read_meta(folder)).values())
    assert printed[0].split()[2:5] == [f"{share:.3f}" for share in shares]
    inspected = CliRunner().invoke(command, [str(tmp_path), "--by-client"])
    assert inspected.exit_code == 0, inspected.output
    assert printed[0] in inspected.output
    assert "The best classifier that sees it alone is right on " in inspected.output
    rows = {line.split()[0]: line.split() for line in inspected.output.splitlines() if line.startswith("000")}
    assert sorted(rows) == ["0000", "0001", "0002"]
    assert float(rows["0001"][2]) == pytest.approx(
        client_shortcuts(read_meta(folder))["0001"].aligned, abs=5e-4
    )
