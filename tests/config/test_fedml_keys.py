"""Configurations of FedML: taken where they mean the same, and answered key by key where they do not."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedml_spurious.common.errors import InputError
from fedml_spurious.config.fedml_keys import KEYS, RENAMED, SECTIONS
from fedml_spurious.config.file import check_settings, load_settings

REPOSITORY = Path(__file__).parents[2]


def refusal(content: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        check_settings(content, source="file")
    return str(caught.value)


@pytest.mark.parametrize("folder", ["simulation_sp", "simulaton_mpi"])
def test_fedmls_own_examples_are_answered_key_by_key(folder: str) -> None:
    """Every key that is FedML's alone has a sentence, and none is told to be another key."""
    path = Path(str(resources.files("fedml"))) / "config" / folder / "fedml_config.yaml"
    with pytest.raises(InputError) as caught:
        load_settings(path)
    text = str(caught.value)
    assert "Did you mean" not in text
    assert "unknown" not in text
    assert "data_args.partition_alpha: a key of FedML's: clients come from split files" in text
    assert "train_args.client_optimizer: expected 'adam', got text 'sgd'" in text
    assert "client_id_list" not in text  # "[]" asks for nothing


def test_what_was_misleading_has_a_sentence(tiny: dict[str, Any]) -> None:
    text = refusal(
        tiny
        | {
            "defense_args": {"enable_defense": True, "defense_type": "krum"},
            "tracking_args": {"enable_tracking": True},
        }
    )
    assert "2 settings are wrong" in text
    assert "defense_args: a section of FedML's: there is no defence of the server" in text
    assert "tracking_args.enable_tracking: a key of FedML's: tracking is Weights & Biases here" in text
    assert "Did you mean" not in text


def test_all_mistakes_are_named_at_once(tiny: dict[str, Any]) -> None:
    text = refusal(tiny | {"dp_args": {"enable_dp": True}, "train_args": {"epochs": 0, "momentum": 0.9}})
    assert "3 settings are wrong" in text


def test_what_is_switched_off_or_means_the_same_is_taken(tiny: dict[str, Any]) -> None:
    found = check_settings(
        tiny
        | {
            "defense_args": {"enable_defense": False, "defense_type": "krum"},
            "device_args": {"gpu_mapping_file": None, "gpu_mapping_key": None},
            "tracking_args": {"wandb_name": "mine", "enable_tracking": False},
            "train_args": tiny["train_args"] | {"client_id_list": "[]"},
            "comm_args": {"is_mobile": 0},
        },
        source="file",
    )
    assert found.tracking_args.run_name == "mine"
    assert found.train_args.comm_round == 3


def test_a_key_under_both_names_is_refused(tiny: dict[str, Any]) -> None:
    text = refusal(tiny | {"tracking_args": {"wandb_name": "a", "run_name": "b"}})
    assert "tracking_args.wandb_name: means tracking_args.run_name, which is there too" in text


def test_ids_without_quotes_are_told_to_have_them(tiny: dict[str, Any]) -> None:
    personalization = yaml.safe_load("{clients: [0010]}")
    text = refusal(tiny | {"personalization_args": personalization})
    assert 'Quote ids: YAML reads 0010 as the number 8; write ["0010"]' in text


def test_sections_below_spurious_args_are_ours(tiny: dict[str, Any], tmp_path: Path) -> None:
    """FedML takes sections apart, and what stands one level deeper stays whole."""
    path = tmp_path / "config.yaml"
    own = {"personalization_args": {"epochs": 7}, "attack_args": None}
    rest = {name: section for name, section in tiny.items() if name not in own}
    path.write_text(yaml.safe_dump(rest | {"spurious_args": own}))
    found = load_settings(path, ["personalization_args.batch_size=3"])
    assert (found.personalization_args.epochs, found.personalization_args.batch_size) == (7, 3)
    assert found.attack_args.steps == 10
    path.write_text(yaml.safe_dump(tiny | {"spurious_args": own}))
    with pytest.raises(InputError, match="stands below spurious_args and beside it"):
        load_settings(path)
    path.write_text(yaml.safe_dump(rest | {"spurious_args": {"epochs": 3}}))
    with pytest.raises(InputError, match="expected sections such as personalization_args below it"):
        load_settings(path)


def test_the_examples_of_fedml_programs_are_configurations_of_ours() -> None:
    for name in ("fedml_mpi", "fedml_cross_silo"):
        found = load_settings(
            REPOSITORY / "examples" / name / "fedml_config.yaml",
            ["comm_args.backend=sp", "common_args.training_type=simulation"],
        )
        assert found.methods() == ["global", "ft", "ours"]


def test_the_table_of_the_page_is_whole() -> None:
    page = (REPOSITORY / "docs" / "fedml.md").read_text(encoding="utf-8")
    for key in [*KEYS, *(f"{section}.{key}" for section, key in RENAMED), *SECTIONS]:
        assert f"`{key}`" in page, key
