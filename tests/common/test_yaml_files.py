"""YAML as people write it: right content or one clear message, whatever the text."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.yaml_files import parse_yaml, read_yaml
from fedml_spurious.results.run_config import read_run_config


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: {b: 1, b: 2}", "broken YAML in line 1, column 11: the key 'b' stands here twice"),
        ("? [1, 2]\n: 3", "broken YAML in line 1, column 3: a key is no plain text"),
        ("? {a: 1}\n: 3", "broken YAML in line 1, column 3: a key is no plain text"),
        ("name: 2026-13-45", "broken YAML: a value cannot be read (month must be in 1..12); quote it"),
        ("name: 2026-02-30", "broken YAML: a value cannot be read (day is out of range for month); quote it"),
        ("n: " + "9" * 5000, "a value cannot be read (Exceeds the limit"),
        ("a: [1, 2", "broken YAML in line 1, column 9"),
        ("[" * 5000, "it is nested too deeply"),
        ("a: &x [*x]", "it is nested too deeply, or contains itself"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: *nowhere", "found undefined alias"),
        ("<<: 5", "expected a mapping or list of mappings for merging"),
        ("\x00", "special characters are not allowed"),
    ],
)
def test_what_cannot_be_read_is_one_message(text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "file.yaml")
    message = str(caught.value)
    assert message.startswith("file.yaml: broken YAML")
    assert expected in message
    assert "\n" not in message


def test_merge_keys_work_and_what_stands_beside_them_wins() -> None:
    text = "common: &c {epochs: 2, batch_size: 8}\ntrain_args: {<<: *c, epochs: 5}"
    assert parse_yaml(text, "file")["train_args"] == {"epochs": 5, "batch_size": 8}


def test_an_alias_is_a_copy() -> None:
    content = parse_yaml("a: &x {b: [1]}\nc: *x", "file")
    content["a"]["b"].append(2)
    assert content["c"] == {"b": [1]}


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet=st.sampled_from("ab1:-,[]{}&*!?<>|'\"#% \n\t.0e+"), max_size=40))
def test_any_text_is_content_or_an_input_error(text: str) -> None:
    try:
        content = parse_yaml(text, "file")
    except InputError:
        return
    # Whatever is accepted is what PyYAML itself reads.
    assert repr(content) == repr(yaml.safe_load(text))


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as text"):
        read_yaml(path)
    with pytest.raises(InputError, match="cannot be read as text"):
        read_yaml(tmp_path)
    path.write_text("a: 5")
    with pytest.raises(InputError, match="is no configuration that a run wrote"):
        read_run_config(path)
