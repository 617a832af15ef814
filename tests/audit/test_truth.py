"""What the audit says against the truth, on small federations whose shortcut is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from federations import audit, audited, colored, marked, personalized
from running import read_rows

from fedml_spurious.analysis.probes import color
from fedml_spurious.results.audits import CANNOT_SAY, MORE, NOT_MORE


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every client has a colour map of its own, and no conflicting sample in training."""
    folder = tmp_path_factory.mktemp("biased")
    return personalized(colored(folder / "data"), folder / "run")


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marks")
    data = marked(folder / "data")
    return personalized(data, folder / "run", "marked_digits", "federations:small_network", 8, 0.003)


def half_color(image: torch.Tensor, donor: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
    return (image + color(image, donor, draw)) / 2


def of_ft(summary: dict[str, Any]) -> dict[str, Any]:
    return summary["methods"]["ft"]


def test_the_colour_probe_finds_the_rise_and_its_intervals_hold_the_truth(biased: Path) -> None:
    summary, rows = audited(biased, "--probe", "colour", "--truth")
    found = of_ft(summary)
    assert found["truth"]["delta"] > 0.15  # there is something to be found
    assert found["delta"]["value"] == pytest.approx(found["truth"]["delta"], abs=0.05)
    assert found["truth"]["covered"] >= 0.8 * found["truth"]["compared"] == 0.8 * 6
    assert found["verdict"] == MORE
    assert {row["verdict"] for row in rows} <= {MORE, CANNOT_SAY}


def test_a_probe_of_half_strength_says_more_of_none_that_is_not(biased: Path) -> None:
    _, rows = audited(biased, "--probe", "test_truth:half_color", "--truth")
    assert all(float(row["delta_truth"]) > 0.05 for row in rows if row["verdict"] == MORE)
    # It sees less than there is.
    assert np.mean([float(row["delta"]) for row in rows]) < np.mean(
        [float(row["delta_truth"]) for row in rows]
    )


def test_where_colours_conflict_nobody_is_said_to_rely_more(tmp_path: Path) -> None:
    run = personalized(colored(tmp_path / "data", bias_conflicting_fraction=0.8), tmp_path / "run")
    summary, rows = audited(run, "--probe", "colour", "--truth")
    found = of_ft(summary)
    assert found["verdict"] != MORE
    assert MORE not in {row["verdict"] for row in rows}
    assert found["delta"]["value"] == pytest.approx(found["truth"]["delta"], abs=0.05)
    # Not because it cannot say: with a tolerance beyond the true rise it says that there is not more.
    wide = found["truth"]["delta"] + 0.15
    summary, rows = audited(run, "--probe", "colour", "--tolerance", f"{wide:.3f}")
    assert of_ft(summary)["verdict"] == NOT_MORE
    assert NOT_MORE in {row["verdict"] for row in rows}


def test_one_colour_map_for_all_is_a_biased_reference(tmp_path: Path) -> None:
    data = colored(tmp_path / "data", map_divergence=0.0, palette=None)
    run = personalized(data, tmp_path / "run")
    result = audit(run, "--probe", "colour", "--tolerance", "0.3")
    assert result.exit_code == 0, result.output
    assert "Warning: the global model is biased itself (its disparity by the probe is 0." in result.output
    rows = read_rows(run / "audit.csv")
    assert min(float(row["disparity_global"]) for row in rows) > 0.1
    for row in rows:
        assert ("relative to a biased reference" in row["reason"]) == (row["verdict"] == NOT_MORE)


def test_colour_says_nothing_of_marks_and_peers_see_them(marks: Path) -> None:
    summary, rows = audited(marks, "--probe", "colour", "--truth")
    assert {row["verdict"] for row in rows} == {CANNOT_SAY}
    assert of_ft(summary)["verdict"] == CANNOT_SAY
    assert "the probe flips neither model" in of_ft(summary)["reason"]
    summary, rows = audited(marks, "--peers", "--truth")
    found = of_ft(summary)
    assert found["truth"]["delta"] > 0.12
    assert found["peer_delta"]["value"] == pytest.approx(found["truth"]["delta"], abs=0.05)
    assert found["verdict"] == MORE
    assert {row["verdict"] for row in rows} <= {MORE, CANNOT_SAY}


def test_the_box_of_the_mark_finds_it_and_peers_take_a_wrong_probe_back(marks: Path) -> None:
    summary, _ = audited(marks, "--probe", "region:0,6,0,28", "--truth")
    found = of_ft(summary)
    assert found["delta"]["value"] == pytest.approx(found["truth"]["delta"], abs=0.05)
    assert found["verdict"] == MORE
    summary, _ = audited(marks, "--probe", "colour", "--peers")
    assert "peers see a change that your probe does not" in of_ft(summary)["reason"]
