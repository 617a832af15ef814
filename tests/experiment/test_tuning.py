"""The rules of appendix C.2 on tables with known answers, and tuning inside whole runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from running import client_events, invoke, read_rows, without_time

from data_partition.split_files.folder import Samples, SplitFolder
from fedml_spurious.cli import main
from fedml_spurious.experiment.tuning import Reference, choose
from fedml_spurious.results.decisions import Trial


def trials(*correct: int, count: int = 200) -> list[Trial]:
    values = (0.01, 0.1, 1.0, 10.0)
    return [Trial.counted(value, right, count) for value, right in zip(values, correct, strict=False)]


@pytest.mark.parametrize(
    ("correct", "tolerance", "chosen", "reason"),
    [
        ((190, 191, 190, 150), 0.0, 1.0, "10 has 0.7500, below the 0.9500 of 0.01"),
        ((190, 189, 188, 187), 0.0, 0.01, "0.1 has 0.9450, below the 0.9500 of 0.01"),
        ((190, 190, 195, 190), 0.0, 10.0, "the largest of the grid"),
        # The largest that does no harm, though a smaller one does.
        ((190, 180, 190, 180), 0.0, 1.0, "10 has 0.9000, below the 0.9500 of 0.01"),
        # Two of 200 samples are exactly the tolerance; three are more.
        ((190, 190, 188, 187), 0.01, 1.0, "10 has 0.9350, below the 0.9500 of 0.01 minus 0.01"),
    ],
)
def test_the_largest_value_that_does_not_lower_the_validation_accuracy(
    correct: tuple[int, ...], tolerance: float, chosen: float, reason: str
) -> None:
    actual, why = choose("largest_harmless", trials(*correct), tolerance)
    assert actual == chosen
    assert why.startswith(reason)


@pytest.mark.parametrize(
    ("correct", "chosen", "reason"),
    [
        ((199, 195, 180, 170), 1.0, "10 has 0.8500, below the 0.9000 of the global model"),
        ((199, 195, 190, 180), 10.0, "the largest of the grid; not below the 0.9000 of the global model"),
        ((170, 171, 172, 173), 0.01, "no value does without harm: 0.01 has 0.8500, below the 0.9000 of the"),
        ((170,), 0.01, "no value does without harm: 0.01 has 0.8500, below the 0.9000 of the global model"),
    ],
)
def test_against_the_global_model(correct: tuple[int, ...], chosen: float, reason: str) -> None:
    actual, why = choose("largest_harmless", trials(*correct), 0.0, Reference("the global model", 180, 200))
    assert actual == chosen
    assert why.startswith(reason)


@pytest.mark.parametrize(
    ("correct", "chosen"), [((190, 191), 0.1), ((191, 190), 0.01), ((190, 190), 0.01), ((1, 3, 3, 2), 0.1)]
)
def test_dittos_lambda_is_the_most_accurate_one_and_of_equals_the_smallest(
    correct: tuple[int, ...], chosen: float
) -> None:
    assert choose("most_accurate", trials(*correct), 0.5)[0] == chosen


@pytest.mark.parametrize("rule", ["largest_harmless", "most_accurate"])
def test_a_method_that_never_applies_gets_the_smallest_value(rule: Any) -> None:
    assert choose(rule, trials(0, 0, count=0), 0.0) == (
        0.01,
        "the method does not apply: the smallest value",
    )


@pytest.mark.parametrize(
    ("correct", "rule", "chosen", "reason"),
    [
        ((190, 190, None, 190), "largest_harmless", 10.0, "the largest of the grid"),
        ((190, 190, None, None), "largest_harmless", 0.1, "the training diverges with 1"),
        ((None, 170, 180, None), "largest_harmless", 1.0, "the training diverges with 10"),
        ((None, 180, 170, None), "largest_harmless", 0.1, "1 has 0.8500, below the 0.9000 of 0.1"),
        ((None, 150, None, 190), "most_accurate", 10.0, "the highest validation accuracy"),
        ((None, None), "most_accurate", 0.01, "the training diverges with every value: the smallest"),
        ((None, None), "largest_harmless", 0.01, "the training diverges with every value: the smallest"),
    ],
)
def test_a_value_with_which_a_model_diverges_is_not_chosen(
    correct: tuple[int | None, ...], rule: Any, chosen: float, reason: str
) -> None:
    values = (0.01, 0.1, 1.0, 10.0)
    tried = [
        Trial(value=value, correct=0, count=200, val_acc=None) if right is None
        else Trial.counted(value, right, 200)
        for value, right in zip(values, correct, strict=False)
    ]  # fmt: skip
    actual, why = choose(rule, tried, 0.0)
    assert actual == chosen
    assert why.startswith(reason)


GRIDS = {"ours": {"lam_adv": [0.1, 100.0], "lam_l2": [0.01, 1.0]}, "ditto": {"lam": [1.0, 0.1]}}


def correct(path: Path) -> int:
    """Validation samples that the personal models of a part classify correctly."""
    return sum(round(float(row["val_acc"]) * int(row["n_val"])) for row in read_rows(path))


@pytest.fixture
def tuned(tiny: dict[str, Any]) -> dict[str, Any]:
    return tiny | {
        "experiment_args": {
            "methods": ["global", "ft", "ditto", "ours"],
            "grids": GRIDS,
            "tuning_reference": "smallest",
            "fl_seeds": [0, 1],
            "personalization_seeds": [0, 1],
        },
        "personalization_args": {"epochs": 2, "save_models": True, "trajectory_interval": 3},
    }


def test_a_tuned_run(tuned: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "tuned"
    result = invoke(tuned, folder)
    assert result.exit_code == 0, result.output
    # 4 clients: global 2 x 4, ft 4 x 4, two tuned methods 3 x 4 + (2 and 3 trials) x 4.
    assert len(client_events(folder)) == 8 + 16 + 24 + 20
    assert "Personal models: 68/68" in result.output
    assert (
        "4 clients x 3 methods besides the global model x 4 pairs of seeds, after the choice of "
        "coefficients for ditto, ours" in result.output
    )
    decision = json.loads((folder / "tuning/ours/decision.json").read_text())
    assert decision["seeds"] == {"fl_seed": 0, "p_seed": 0}
    first, second = decision["trail"]
    parts = folder / "personal/ours"
    assert first["fixed"] == {"lam_l2": 0.01}
    assert second["fixed"] == {"lam_adv": first["chosen"]}
    for value, trial in zip((0.1, 100.0), first["values"], strict=True):
        assert trial["correct"] == correct(parts / f"lam_adv={value},lam_l2=0.01/fl0_p0/clients.csv")
    harmless = first["values"][1]["correct"] >= first["values"][0]["correct"]
    assert first["chosen"] == (100.0 if harmless else 0.1)
    # Every row of the table has the coefficients that were chosen, and is what fixed ones give.
    chosen = decision["chosen"]
    assert chosen == {"lam_adv": first["chosen"], "lam_l2": second["chosen"]}
    ours = [row for row in read_rows(folder / "results.csv") if row["method"] == "ours"]
    assert [{name: float(row[name]) for name in chosen} for row in ours] == [chosen] * 16
    ditto = json.loads((folder / "tuning/ditto/decision.json").read_text())["chosen"]
    fixed = tuned | {
        "experiment_args": {**tuned["experiment_args"], "grids": {}},
        "personalization_args": {**tuned["personalization_args"], "ours": chosen, "ditto": ditto},
    }
    other = tmp_path / "fixed"
    assert invoke(fixed, other).exit_code == 0
    assert without_time(folder) == without_time(other)
    for part in ("ours/fl0_p0", "ours/fl1_p1", "ditto/fl0_p0"):
        for name in ("trajectory.csv", "models/0002.pt"):
            assert (folder / "personal" / part / name).read_bytes() == (
                other / "personal" / part / name
            ).read_bytes()


def test_a_grid_that_grows_costs_only_what_is_new(tuned: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    small = tuned | {
        "experiment_args": {"methods": ["global", "ft"], "fl_seeds": [0], "personalization_seeds": [0]}
    }
    assert invoke(small, folder).exit_code == 0
    before = len(client_events(folder))
    grown = small["experiment_args"] | {"methods": ["global", "ft", "ours"]}
    grown["grids"] = {"ours": {"lam_adv": [0.1]}}
    assert invoke(tuned | {"experiment_args": grown}, folder, "--resume").exit_code == 0
    assert len(client_events(folder)) == before + 4  # one trial, which is the result
    grown["grids"] = {"ours": {"lam_adv": [0.1, 0.2, 0.05]}}
    assert invoke(tuned | {"experiment_args": grown}, folder, "--resume").exit_code == 0
    assert len(client_events(folder)) == before + 12
    again = invoke(tuned | {"experiment_args": grown}, folder, "--resume")
    assert again.exit_code == 0
    assert len(client_events(folder)) == before + 12


def test_fixed_options_may_change_and_what_was_made_is_kept(tuned: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    experiment = {"methods": ["ditto"], "fl_seeds": [0], "personalization_seeds": [0]}

    def results_with(lam: float, **more: Any) -> list[dict[str, str]]:
        config = tuned | {
            "experiment_args": experiment | more,
            "personalization_args": tuned["personalization_args"] | {"ditto": {"lam": lam}},
        }
        result = invoke(config, folder, "--resume")
        assert result.exit_code == 0, result.output
        assert read_rows(folder / "results.csv") == read_rows(folder / "personal/ditto/fl0_p0/clients.csv")
        return read_rows(folder / "results.csv")

    weak, strong = results_with(0.0), results_with(1000.0)
    assert len(client_events(folder)) == 8
    assert [row["loss_b"] for row in weak] != [row["loss_b"] for row in strong]
    # A grid that holds values of before tries only the third, and taking the grid away brings back the first.
    tuned_rows = results_with(0.0, grids={"ditto": {"lam": [0.0, 0.1, 1000.0]}})
    assert len(client_events(folder)) == 12
    chosen = json.loads((folder / "tuning/ditto/decision.json").read_text())["chosen"]["lam"]
    assert tuned_rows == read_rows(folder / f"personal/ditto/lam={chosen}/fl0_p0/clients.csv")
    assert results_with(0.0) == weak
    assert len(client_events(folder)) == 12


def test_per_client_every_client_has_its_own_choice(tuned: dict[str, Any], tmp_path: Path) -> None:
    tuned["experiment_args"] |= {
        "methods": ["ditto"], "tuning": "client", "fl_seeds": [0], "personalization_seeds": [0],
    }  # fmt: skip
    folder = tmp_path / "run"
    result = invoke(tuned, folder)
    assert result.exit_code == 0, result.output
    decision = json.loads((folder / "tuning/ditto/decision.json").read_text())
    found = {
        value: {
            row["client"]: row for row in read_rows(folder / f"personal/ditto/lam={value}/fl0_p0/clients.csv")
        }
        for value in (0.1, 1.0)
    }
    final = {row["client"]: row for row in read_rows(folder / "results.csv")}
    assert decision["scope"] == "client"
    assert sorted(decision["clients"]) == ["0000", "0001", "0002", "0003"]
    assert set(decision["clients"]) == set(final) == set(found[0.1])
    for client, own in decision["clients"].items():
        best = 1.0 if float(found[1.0][client]["val_acc"]) > float(found[0.1][client]["val_acc"]) else 0.1
        assert own["chosen"] == {"lam": best}
        assert final[client] == found[best][client]


def test_the_global_model_is_measured_for_the_choice_though_it_is_not_in_the_table(
    tuned: dict[str, Any], tmp_path: Path
) -> None:
    tuned["experiment_args"] = {"methods": ["ours"], "grids": GRIDS, "tuning_reference": "global"}
    folder = tmp_path / "run"
    result = invoke(tuned, folder)
    assert result.exit_code == 0, result.output
    needed = correct(folder / "personal/global/fl0/clients.csv")
    decision = json.loads((folder / "tuning/ours/decision.json").read_text())
    assert decision["rule"].endswith("validation accuracy is not below that of the global model")
    assert [step["coefficient"] for step in decision["trail"]] == ["lam_adv", "lam_l2"]
    for step in decision["trail"]:
        harmless = [trial["value"] for trial in step["values"] if trial["correct"] >= needed]
        assert step["chosen"] == (harmless[-1] if harmless else step["values"][0]["value"])
    assert {row["method"] for row in read_rows(folder / "results.csv")} == {"ours"}
    # The table of the run, made from memory, says what is said of the files.
    said = (folder / "table.md").read_text().splitlines()
    read = CliRunner().invoke(main, ["table", str(folder), "--format", "markdown"])
    assert read.exit_code == 0, read.output
    notes = [line for line in read.output.splitlines() if line.startswith(("Selected", "Coeff", "Attack"))]
    assert len(notes) == 3
    assert notes[1].endswith("(tuned). Tuned with the seeds fl0 p0.")
    assert [line for line in said if line in notes] == notes


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_against_a_share_of_what_fine_tuning_gains(
    share: float, tuned: dict[str, Any], tmp_path: Path
) -> None:
    """The rule by hand, from the rows of the global model, of fine-tuning and of every trial."""
    tuned["experiment_args"] |= {
        "methods": ["ft", "ours"],
        "grids": {"ours": {"lam_adv": [0.1, 1.0, 100.0]}},
        "tuning_reference": "gain",
        "tuning_share": share,
    }
    folder = tmp_path / "run"
    result = invoke(tuned, folder)
    assert result.exit_code == 0, result.output
    start, ft = (correct(folder / f"personal/{part}/clients.csv") for part in ("global/fl0", "ft/fl0_p0"))
    assert ft > start, "without a gain this test shows nothing"
    found = {
        value: correct(folder / f"personal/ours/lam_adv={value},lam_l2=0.1/fl0_p0/clients.csv")
        for value in (0.1, 1.0, 100.0)
    }
    allowed = [value for value, right in found.items() if right >= start + share * (ft - start)]
    decision = json.loads((folder / "tuning/ours/decision.json").read_text())
    assert decision["chosen"] == {"lam_adv": max(allowed, default=0.1)}
    assert f"the global model and {share:.0%} of what fine-tuning gains over it" in decision["rule"]
    assert {method for method, *_ in client_events(folder)} == {"global", "ft", "ours"}


def test_the_gain_of_fine_tuning_needs_fine_tuning(tuned: dict[str, Any], tmp_path: Path) -> None:
    tuned["experiment_args"] |= {"methods": ["global", "ours"], "tuning_reference": "gain"}
    result = invoke(tuned, tmp_path / "run")
    assert result.exit_code == 2
    assert "tuning_reference: gain compares with fine-tuning; add ft to" in result.output


def test_a_whole_number_stays_one(tiny: dict[str, Any], tmp_path: Path) -> None:
    """JTT's multiplicity is an integer in the file and in the names of folders."""
    tiny["experiment_args"] = {"methods": ["jtt"], "grids": {"jtt": {"multiplicity": [2, 1]}}}
    folder = tmp_path / "run"
    result = invoke(tiny, folder)
    assert result.exit_code == 0, result.output
    text = (folder / "tuning/jtt/decision.json").read_text()
    assert re.findall(r'"value": (.*),', text) == ["1", "2"]
    chosen = re.findall(r'"(?:multiplicity|chosen)": (\d.*?),?\n', text)
    assert chosen in (["1", "1"], ["2", "2"])
    tried = [path.name.split(",")[-1] for path in (folder / "personal/jtt").glob("*multiplicity=*")]
    assert sorted(tried) == ["multiplicity=1", "multiplicity=2"]


def test_the_conflicting_test_set_has_no_say_in_a_choice(
    tuned: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same run with other labels there: other results, the same choices for the same reasons."""
    tuned["experiment_args"] |= {"fl_seeds": [0], "personalization_seeds": [0], "methods": ["ditto", "ours"]}
    assert invoke(tuned, tmp_path / "true").exit_code == 0
    load = SplitFolder.load

    def other_labels(folder: SplitFolder, client: str, split: str) -> Samples:
        samples = load(folder, client, split)
        return replace(samples, label=(samples.label + 1) % 10) if split == "test_bc" else samples

    monkeypatch.setattr(SplitFolder, "load", other_labels)
    assert invoke(tuned, tmp_path / "false").exit_code == 0
    for method in ("ditto", "ours"):
        name = f"tuning/{method}/decision.json"
        assert (tmp_path / "true" / name).read_bytes() == (tmp_path / "false" / name).read_bytes()
    true, false = (without_time(tmp_path / name) for name in ("true", "false"))
    assert [row["loss_bc"] for row in true] != [row["loss_bc"] for row in false]
    kept = ("selected_epoch", "val_acc", "acc_b", "lam_adv", "lam_l2", "eps")
    assert [[row[name] for name in kept] for row in true] == [[row[name] for name in kept] for row in false]


@pytest.mark.parametrize(
    ("grids", "message"),
    [
        ({"ours": {"lam": [1.0]}}, "ours has no such option; it has lam_adv, lam_l2"),
        ({"our": {"lam_adv": [1.0]}}, "no method of that name"),
        ({"ours": {"lam_adv": [1.0, -1.0]}}, "lam_adv: expected at least 0, got -1.0"),
        ({"ours": {"lam_adv": []}}, "at least 1 item"),
        ({"ours": {"lam_adv": [1, 0.1, 1.0]}}, "lam_adv: names 1 twice"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(
    tiny: dict[str, Any], tmp_path: Path, grids: dict[str, Any], message: str
) -> None:
    tiny["experiment_args"]["grids"] = grids
    result = invoke(tiny, tmp_path / "run")
    assert result.exit_code == 2
    assert "grids" in result.output
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "run").exists()
