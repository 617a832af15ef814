from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from running import invoke

from data_partition import colored_mnist
from data_partition.partition import Partition
from fedml_spurious.common.errors import InputError
from fedml_spurious.config.file import check_settings

GIVEN = {"source": "digits", "clients": 4, "ratios": "72:8:20", "limit": None, "palette": ["red", "green"]}
OWN = {"classes_per_client": 2}


def config(**partition: Any) -> dict[str, Any]:
    return {"data_args": {"dataset": "colored_mnist", "partition": partition}}


def test_options_are_kept_as_given_and_as_the_script_takes_them() -> None:
    settings = check_settings(config(**GIVEN, **OWN), source="test")
    assert settings.data_args.partition is not None
    assert settings.data_args.partition.checked == colored_mnist.Options(
        source="digits", clients=4, classes_per_client=2, palette=("red", "green")
    )
    assert settings.model_dump(mode="json", exclude_none=True)["data_args"]["partition"] == GIVEN | OWN


def test_the_script_gets_the_very_object_that_was_checked(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, given = [], []
    validate = colored_mnist.Options.model_validate
    build = Partition.build

    def watch_validation(*arguments: Any, **named: Any) -> colored_mnist.Options:
        checked.append(validate(*arguments, **named))
        return checked[-1]

    def watch_build(self: Partition[Any], options: Any, **named: Any) -> Path:
        given.append(options)
        return build(self, options, **named)

    monkeypatch.setattr(colored_mnist.Options, "model_validate", watch_validation)
    monkeypatch.setattr(Partition, "build", watch_build)
    options = {"source": "digits", "clients": 4, "classes_per_client": 3, "limit": 240}
    done = invoke(tiny | config(**options), tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert len(checked) == len(given) == 1
    assert given[0] is checked[0]
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert written["data_args"]["partition"] == options


@pytest.mark.parametrize(
    ("partition", "problem"),
    [
        ({"client": 3}, "data_args.partition.client: unknown key. Did you mean clients?"),
        (
            {"ratios": "a:b:c"},
            "data_args.partition.ratios: expected ratios of three whole numbers such as",
        ),
        ({"ratios": "0:1:1"}, "data_args.partition: ratios: 0:1:1: expected none below 0 and some training"),
    ],
)
def test_a_mistake_is_named_with_its_key(partition: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError) as caught:
        check_settings(config(**partition), source="test")
    assert str(caught.value).startswith(f"test: 1 setting is wrong\n  {problem}")
