"""Every mistake in a configuration is named, with its place and what to do."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from pydantic import ValidationError

from fedml_spurious.cli import main
from fedml_spurious.common.errors import InputError
from fedml_spurious.config.file import check_settings, find_config, load_settings, shipped_configs
from fedml_spurious.config.settings import Settings


def refusal(text: str, tmp_path: Path, *overrides: str) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_settings(path, overrides)
    return str(caught.value)


DATA = "data_args: {dataset: colored_mnist, data_cache_dir: splits}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "got an empty file"),
        ("- 1\n- 2\n", "got a list"),
        ("train_args: [1, 2\n", "broken YAML in line"),
        (DATA + "train_args: {epochs: 1, epochs: 2}\n", "'epochs' stands here twice"),
        (DATA + "train_args: {learning_rate: 1e-3}\n", "YAML reads 1e-3 as text: write 0.001 or 1.0e-3"),
        (
            DATA + "train_args: {epochs: [5]}\n",
            "train_args.epochs: expected a whole number, got the list [5]",
        ),
        (
            DATA + "train_args: {comm_rounds: 5}\n",
            "train_args.comm_rounds: unknown key. Did you mean comm_round?",
        ),
        (DATA + "trian_args: {}\n", "trian_args: unknown section. Did you mean train_args?"),
        (DATA + "personalization_args: {ours: {lam: 1}}\n", "personalization_args.ours.lam: unknown key"),
        (DATA + "personalization_args: {our: {}}\n", "Did you mean ours?"),
        ("train_args: {}\n", "data_args: missing"),
        ("data_args: {dataset: colored_mnist}\n", "got neither"),
        (
            DATA + "train_args: {client_num_in_total: 4, client_num_per_round: 5}\n",
            "client_num_per_round is 5, but client_num_in_total is 4",
        ),
        (
            DATA + "attack_args: {success_low: 1.5}\n",
            "attack_args.success_low: expected at most 1",
        ),
        (DATA + "attack_args: {success_low: 0.6}\n", "success_low is above success_high"),
        (DATA + "attack_args: {norm: l1}\n", "attack_args.norm: expected 'linf' or 'l2', got text 'l1'"),
        (DATA + "experiment_args: {methods: [ft, fT]}\n", "unknown method 'fT'"),
        (DATA + "experiment_args: {methods: [ft, ft]}\n", "methods names ft twice"),
        (DATA + "personalization_args: {clients: ['1', '1']}\n", "clients names 1 twice"),
        (DATA + "experiment_args: {fl_seeds: []}\n", "experiment_args.fl_seeds"),
        (DATA + "common_args: {training_type: cross_cloud}\n", "common_args.training_type"),
        (
            "data_args: {dataset: colored_mnist, partition: {source: digits, classes_per_client: 11}}\n",
            "11",
        ),
        (
            "data_args: {dataset: colored_mnist, partition: {bias_conflicting_fraction: 1.5}}\n",
            "data_args.partition.bias_conflicting_fraction: expected at most 1, got 1.5",
        ),
        ("data_args: {dataset: mnist, partition: {}}\n", "no partition script 'mnist'"),
    ],
)
def test_a_mistake_is_named(text: str, expected: str, tmp_path: Path) -> None:
    assert expected in refusal(text, tmp_path)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    text = (
        "data_args: {dataset: colored_mnist, partition: {clients: 0}}\n"
        "train_args: {epochs: -1, learning_rate: fast}\nmodel_arg: {}\n"
    )
    message = refusal(text, tmp_path)
    assert message.startswith(f"{tmp_path / 'config.yaml'}: 4 settings are wrong")
    for part in (
        "train_args.epochs",
        "train_args.learning_rate",
        "model_arg:",
        "data_args.partition.clients",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("epochs=3", "expected section.key=value"),
        ("train_args.epochs", "expected section.key=value"),
        ("train_args.epochs=[", "broken YAML"),
        ("train_args.epochs.x=1", "epochs is a value"),
    ],
)
def test_a_broken_override_is_named(override: str, expected: str, tmp_path: Path) -> None:
    text = DATA + "train_args: {epochs: 2}\n"
    assert expected in refusal(text, tmp_path, override)


def test_overrides_replace_values_and_take_numbers_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(DATA + "train_args: {epochs: 2}\n")
    overrides = (
        "train_args.epochs=7",
        "train_args.learning_rate=1e-3",
        "personalization_args.ours.lam_l2=10.0",
    )
    settings = load_settings(path, (*overrides, "experiment_args.fl_seeds=[3,4]"))
    assert settings.train_args.epochs == 7
    assert settings.train_args.learning_rate == 0.001
    assert settings.options("ours").lam_l2 == 10.0  # type: ignore[union-attr]
    assert settings.fl_seeds == (3, 4)


def test_defaults_are_the_papers() -> None:
    """Appendix C.2 and readings 3 to 5 and 17: checked against the text."""
    settings = check_settings({"data_args": {"dataset": "d", "data_cache_dir": "x"}}, source="test")
    train, attack = settings.train_args, settings.attack_args
    assert (train.comm_round, train.client_num_per_round, train.epochs, train.batch_size) == (500, 5, 5, 64)
    assert (train.learning_rate, train.weight_decay) == (1e-4, 0.0)
    assert (attack.norm, attack.eps, attack.steps, attack.step_ratio) == ("linf", 0.031, 10, 0.25)
    assert (attack.shrink, attack.success_low, attack.success_high) == (0.8, 0.3, 0.5)
    assert settings.model_args.fc_width == 4096
    assert settings.methods() == ["global", "ft", "ditto", "uw", "jtt", "adv", "l2", "ours"]


def test_settings_are_frozen(tiny: dict[str, Any]) -> None:
    settings = check_settings(tiny, source="test")
    with pytest.raises(ValidationError, match="frozen"):
        settings.train_args.epochs = 3  # type: ignore[misc]


def test_the_random_seed_serves_where_no_seeds_are_named() -> None:
    content: dict[str, Any] = {"data_args": {"dataset": "d", "data_cache_dir": "x"}}
    assert check_settings(content | {"common_args": {"random_seed": 7}}, source="test").fl_seeds == (7,)


def test_a_method_of_ones_own_brings_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its module lies beside the configuration."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "mine.py").write_text(
        "from fedml_spurious.personalization.base import MethodSettings, Personalizer\n"
        "class Options(MethodSettings):\n    strength: float = 1.0\n"
        "class Mine(Personalizer[Options]):\n    name = 'mine'\n    settings_type = Options\n"
    )
    path = tmp_path / "own.yaml"
    own = DATA + "experiment_args: {methods: [ft, mine:Mine]}\n"
    path.write_text(own + "personalization_args: {mine: {strength: 2.5}}\n")
    assert load_settings(path).options("mine").strength == 2.5  # type: ignore[union-attr]
    path.write_text(own + "personalization_args: {mine: {strenght: 2.5}}\n")
    with pytest.raises(InputError, match="Did you mean strength"):
        load_settings(path)
    path.write_text(DATA + "experiment_args: {methods: [mine_that_is_not_there:Mine]}\n")
    with pytest.raises(InputError, match="with the module beside the configuration, installed, or on"):
        load_settings(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ft", "which something else has"),
        ("global", "which something else has"),
        ("clients", "which something else has"),
        ("../elsewhere", "expected letters, digits and underscores"),
        ("", "expected letters, digits and underscores"),
    ],
)
def test_the_name_of_a_method_of_ones_own_is_checked(
    name: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    module = f"named_{abs(hash(name))}"
    (tmp_path / f"{module}.py").write_text(
        "from fedml_spurious.personalization.base import MethodSettings, Personalizer\n"
        f"class Mine(Personalizer[MethodSettings]):\n    name = {name!r}\n"
    )
    path = tmp_path / "own.yaml"
    path.write_text(DATA + f"experiment_args: {{methods: [ft, '{module}:Mine']}}\n")
    with pytest.raises(InputError, match=re.escape(f"{module}:Mine has the name {name!r}") + f".*{expected}"):
        load_settings(path)


@pytest.mark.parametrize(
    ("module", "code", "expected"),
    [
        (
            "raises",
            "raise RuntimeError('a mistake')",
            "failed with RuntimeError: a mistake .*raises.py, line 2",
        ),
        ("leaves", "raise SystemExit(3)", "failed with SystemExit: 3 .*leaves.py, line 2"),
        ("misspelt", "class Mine(", "failed with SyntaxError: .*misspelt.py, line 2"),
        ("nameless", "class Mine(Personalizer[MethodSettings]): pass", "has no name"),
        (
            "unruly",
            "class Mine(Personalizer[MethodSettings]):\n    name, tuning_rule = 'm', 'largest'",
            "tuning_rule 'largest'; expected largest_harmless or most_accurate",
        ),
        (
            "unwritable",
            "class Options(MethodSettings):\n    act: object = print\n"
            "class Mine(Personalizer[Options]):\n    name, settings_type = 'm', Options",
            "every option of Options needs a default that a file can hold",
        ),
        (
            "wrong",
            "class Options(MethodSettings):\n    act: float = 'x'\n"
            "class Mine(Personalizer[Options]):\n    name, settings_type = 'm', Options",
            r"a default that it takes itself \(act: expected a number, got text 'x'\)",
        ),
    ],
)
def test_a_module_of_ones_own_that_fails_is_one_clear_error(
    module: str, code: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    start = "from fedml_spurious.personalization.base import MethodSettings, Personalizer"
    (tmp_path / f"{module}.py").write_text(f"{start}\n{code}\n")
    path = tmp_path / "own.yaml"
    path.write_text(DATA + f"experiment_args: {{methods: [ft, '{module}:Mine']}}\n")
    with pytest.raises(InputError, match=expected):
        load_settings(path)


def test_configurations_are_found_by_path_and_by_name(tmp_path: Path) -> None:
    assert find_config("quickstart").name == "quickstart.yaml"
    path = tmp_path / "own.yaml"
    path.write_text(DATA)
    assert find_config(str(path)) == path
    with pytest.raises(InputError, match="Did you mean quickstart"):
        find_config("quickstat")
    with pytest.raises(InputError, match="is a folder"):
        find_config(str(tmp_path))


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_shipped_configurations_are_valid(name: str) -> None:
    settings = load_settings(shipped_configs()[name])
    assert isinstance(settings, Settings)
    # Written out and read again, they are the same.
    content = yaml.safe_load(yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True)))
    assert check_settings(content, source="test") == settings


@pytest.mark.parametrize("command", [["run"], ["sweep", "--out", "out", "--grid", "train_args.epochs=[1]"]])
def test_fedmls_name_of_the_option_is_taken_too(command: list[str]) -> None:
    answers = {
        CliRunner().invoke(main, [*command, option, "absent.yaml"]).output
        for option in ("--cf", "--yaml_config_file")
    }
    assert len(answers) == 1
    assert "Error: absent.yaml: no such file" in answers.pop()


def test_an_unknown_method_hides_no_other_mistake(tmp_path: Path) -> None:
    text = DATA + "experiment_args: {methods: [ft, outs, nowhere:Mine, fT]}\ntrain_args: {epochs: -1}\n"
    text += "personalization_args: {mine: {strength: 1.0}, ours: {lam: 1}}\n"
    message = refusal(text, tmp_path)
    assert ": 5 settings are wrong\n" in message
    for part in (
        "  experiment_args.methods: unknown method 'outs'; expected ",
        "Did you mean ours?",
        "  experiment_args.methods: cannot import 'nowhere:Mine'",
        "  experiment_args.methods: unknown method 'fT'",
        "  train_args.epochs: expected at least 1, got -1",
        "  personalization_args.ours.lam: unknown key",
    ):
        assert part in message
    grids = "experiment_args: {methods: [ft, nowhere:Mine], grids: {mine: {strength: [1, 2]}}}\n"
    assert "grids" not in refusal(DATA + grids, tmp_path)
