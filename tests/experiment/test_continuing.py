"""What may change between a run and its continuation, what may not, and what becomes of what is there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from running import Finished, client_events, invoke, without_time

from fedml_spurious.cli import main
from fedml_spurious.results.audits import AUDIT_FILES

# Methods of a user: options in a section of their own, and options that are a list.
OWN = """
from pydantic import BaseModel, ConfigDict
from fedml_spurious.personalization.base import MethodSettings, Personalizer

class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    scale: float = 1.0

class NestedOptions(MethodSettings):
    inner: Inner = Inner()

class Nested(Personalizer[NestedOptions]):
    name = "nested"
    settings_type = NestedOptions

class ListedOptions(MethodSettings):
    layers: list[int] = [1, 2]

class Listed(Personalizer[ListedOptions]):
    name = "listed"
    settings_type = ListedOptions
"""


@pytest.fixture(scope="module")
def base(splits: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A finished run of one pair of seeds."""
    config: dict[str, Any] = {
        "data_args": {"dataset": "colored_mnist", "data_cache_dir": str(splits)},
        "model_args": {"model": "small_network:cnn", "fc_width": 8},
        "train_args": {
            "client_num_per_round": 2, "comm_round": 2, "epochs": 1, "batch_size": 16, "learning_rate": 0.001,
        },
        "personalization_args": {"epochs": 1, "ours": {"lam_adv": 1.0, "lam_l2": 0.1}},
        "attack_args": {"steps": 2},
        "experiment_args": {"methods": ["global", "ft", "ours"]},
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("base") / "run"
    return Finished(folder, config, invoke(config, folder))


@pytest.fixture
def again(base: Finished, tmp_path: Path) -> Callable[..., Result]:
    """Continues a copy of the run with some sections changed."""
    (tmp_path / "own.py").write_text(OWN)
    shutil.copytree(base.folder, tmp_path / "run")

    def resume(**sections: dict[str, Any]) -> Result:
        config = base.config | {name: base.config.get(name, {}) | part for name, part in sections.items()}
        return invoke(config, tmp_path / "run", "--resume")

    return resume


def test_options_that_do_not_name_a_folder_may_not_change(
    again: Callable[..., Result], tmp_path: Path
) -> None:
    """Results are kept by options that are one value; others would be taken for results of the new ones."""
    methods = {"methods": ["global", "ft", "ours", "own:Nested", "own:Listed"]}
    assert again(experiment_args=methods).exit_code == 0
    before = len(client_events(tmp_path / "run"))
    for changed, expected in (
        ({"nested": {"inner": {"scale": 0.5}}}, "personalization_args.nested.inner.scale: was 1.0, is 0.5"),
        ({"listed": {"layers": [1]}}, "personalization_args.listed.layers: was [1, 2], is [1]"),
    ):
        result = again(experiment_args=methods, personalization_args=changed)
        assert result.exit_code == 2
        assert expected in result.output
    assert len(client_events(tmp_path / "run")) == before


def test_results_of_other_options_are_gone_before_the_new_ones_are_there(
    again: Callable[..., Result], base: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    stronger = {"ours": {"lam_adv": 10.0, "lam_l2": 0.1}}
    derived = (
        "results*.csv",
        "table.*",
        "report.html",
        "gamma.csv",
        "twins.csv",
        "divergence.csv",
        "audit.*",
    )
    for name in ("report.html", "gamma.csv", "twins.csv", "divergence.csv", *AUDIT_FILES):
        (folder / name).write_text("of the options before")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fedml_spurious.experiment.run.personalize", interrupted)
        assert again(personalization_args=stronger).exit_code == 130
    assert not [path.name for name in derived for path in folder.glob(name)]
    unfinished = CliRunner().invoke(main, ["table", str(folder)])
    assert unfinished.exit_code == 2
    assert "the run is unfinished, it has no results.csv" in unfinished.output
    # The old rows are kept all the same, and are there again with the old options.
    assert again().exit_code == 0
    assert (folder / "results.csv").read_bytes() == (base.folder / "results.csv").read_bytes()


def test_a_run_of_an_older_version_goes_on(again: Callable[..., Result], tmp_path: Path) -> None:
    """Keys that it did not know yet have their defaults, or are refused like any other change."""
    path = tmp_path / "run/config.yaml"
    config = yaml.safe_load(path.read_text())
    for section, key in (("personalization_args", "batchnorm"), ("attack_args", "budget_samples")):
        del config[section][key]
    path.write_text(yaml.safe_dump(config))
    changed = again(personalization_args={"batchnorm": "recalibrate"})
    assert changed.exit_code == 2
    assert "personalization_args.batchnorm: was 'absent', is 'recalibrate'" in changed.output
    assert "budget_samples" not in changed.output
    assert again().exit_code == 0


@pytest.mark.parametrize(
    ("key", "now", "reason"),
    [
        ("batchnorm_mode", "frozen", "the adversarial term under running ones"),
        ("batchnorm_mode", "batch", "the adversarial term under running ones"),
        ("selection_ties", "latest", "of epochs that tie it selected the earliest"),
        ("selection_ties", "earliest", "it did not keep the last epoch"),
    ],
)
def test_a_run_of_a_version_that_computed_otherwise_is_refused_with_the_reason(
    key: str, now: str, reason: str, again: Callable[..., Result], tmp_path: Path
) -> None:
    """The key is absent, and no value of it is what that version did."""
    path = tmp_path / "run/config.yaml"
    config = yaml.safe_load(path.read_text())
    del config["personalization_args"][key]
    path.write_text(yaml.safe_dump(config))
    refused = again(personalization_args={key: now})
    assert refused.exit_code == 2
    assert f"personalization_args.{key}: was 'absent', is '{now}' (an older version" in refused.output
    assert reason in " ".join(refused.output.split())


def test_a_seed_that_was_named_by_default_may_not_vanish(again: Callable[..., Result]) -> None:
    gone = again(experiment_args={"fl_seeds": [1]})
    assert gone.exit_code == 2
    assert "experiment_args.fl_seeds: [0] was there and is not any more" in gone.output
    for key, fewer, said in (
        ("personalization_seeds", [1], "[0]"),
        ("methods", ["global", "ft"], "['ours']"),
    ):
        gone = again(experiment_args={key: fewer})
        assert gone.exit_code == 2
        assert f"experiment_args.{key}: {said} was there and is not any more" in gone.output
    assert again(experiment_args={"fl_seeds": [0, 1]}).exit_code == 0


def test_models_may_be_asked_for_later_and_are_of_the_options_that_hold(
    again: Callable[..., Result], base: Finished, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert again(personalization_args={"save_models": True}).exit_code == 0
    assert without_time(folder) == without_time(base.folder)
    models = sorted(folder.glob("personal/ours/fl0_p0/models/*.pt"))
    assert [path.stem for path in models] == ["0000", "0001", "0002", "0003"]
    assert torch.load(models[0], weights_only=True).keys()
    done = len(client_events(folder))
    assert again(personalization_args={"save_models": True}).exit_code == 0
    assert len(client_events(folder)) == done
    # Models of other options may not stay beside the new rows.
    assert again(personalization_args={"ours": {"lam_adv": 0.5, "lam_l2": 0.1}}).exit_code == 0
    assert not list(folder.glob("personal/ours/fl0_p0/models/*.pt"))


def test_a_whole_number_in_a_grid_is_the_value_that_was_tried(
    again: Callable[..., Result], tmp_path: Path
) -> None:
    before = len(client_events(tmp_path / "run"))
    assert again(experiment_args={"grids": {"ours": {"lam_adv": [1]}}}).exit_code == 0
    assert len(client_events(tmp_path / "run")) == before


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("global/fl0/budget.json", "{", "broken JSON"),
        ("global/fl0/budget.json", "[" * 9999, "broken JSON"),
        ("global/fl0/budget.json", "{}", "eps: missing; it has no default); expected the attack's budget"),
        ("global/fl0/budget.json", '{"eps": NaN, "in_range": true, "trail": [[1, 1]]}', "budget.json"),
        (
            "global/fl0/budget.json",
            '{"eps": 0.03, "in_range": true, "trail": [[0.03, 1]], "clients": ["0001"]}',
            "was found on other clients",
        ),
        (
            "global/fl0/budget.json",
            '{"eps": 0.03, "in_range": true, "trail": [[0.03, 1]], "found_for": "something else"}',
            "was found with other attack_args, data or global model",
        ),
        ("global/fl0/identity.json", "[]", "broken, expected sha256, determined_by"),
        (
            "global/fl0/identity.json",
            '{"sha256": 1, "determined_by": 5}',
            "is broken; expected what determined",
        ),
        ("global/fl0/identity.json", "[" * 9999, "cannot be read as JSON"),
        ("global/fl0/checkpoint.pt", [1, 2], "is no checkpoint of this run"),
        ("global/fl0/checkpoint.pt", {"rounds": -5, "rows": [], "model": {}}, "is no checkpoint of this run"),
        ("global/fl0/checkpoint.pt", {"rounds": 1, "rows": [5], "model": {}}, "is no checkpoint of this run"),
        (
            "global/fl0/checkpoint.pt",
            {"rounds": 1, "rows": [{"round": 0}], "model": None},
            "holds no weights; expected tensors by name",
        ),
        ("global/fl0/model.pt", torch.zeros(3), "holds no weights; expected tensors by name"),
        ("global/fl0/model.pt", {"a": 1}, "holds no weights; expected tensors by name"),
        ("global/fl0/model.pt", "", "cannot be read as a checkpoint"),
        ("config.yaml", "experiment_args: {methods: 5}", "methods: expected a list, got 5"),
        ("config.yaml", "experiment_args: {fl_seeds: [a]}", "fl_seeds.0: expected a whole number"),
        ("config.yaml", "[" * 9999, "broken YAML"),
        ("config.yaml", "", "is no configuration that a run wrote"),
        ("config.yaml", "[1]", "is no configuration that a run wrote"),
        ("config.yaml", "experiment_args:\n", "is no configuration that a run wrote"),
        (
            "personal/ft/fl0_p0/clients.csv",
            "dataset,meth",
            "its last line is cut short; remove the file",
        ),
        ("personal/ft/fl0_p0/clients.csv", "dataset\nd,ft\n", "line 2 has another number of cells"),
        ("personal/ft/fl0_p0/clients.csv", b"\xff\n", "cannot be read as a table"),
    ],
)
def test_damage_is_named(
    name: str, content: Any, expected: str, again: Callable[..., Result], tmp_path: Path
) -> None:
    """In a run of an older version, which kept no checksums."""
    path = tmp_path / "run" / name
    (tmp_path / "run/checksums.jsonl").unlink()
    if not isinstance(content, (str, bytes)):
        torch.save(content, path)
        if name.endswith("checkpoint.pt"):
            (path.parent / "model.pt").unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = again(experiment_args={"methods": ["global", "ft", "ours", "l2"]})
    assert result.exit_code == 2, result.output
    assert str(path) in result.output
    assert expected in result.output
    assert "Traceback" not in result.output


def test_what_a_budget_was_found_on_is_kept(base: Finished) -> None:
    stored = json.loads((base.folder / "global/fl0/budget.json").read_text())
    assert stored["clients"] == ["0000", "0001", "0002", "0003"]
