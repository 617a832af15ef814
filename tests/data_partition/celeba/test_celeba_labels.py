import re
from pathlib import Path

import numpy as np
import pytest
from celeba_raw import small_labels, write_labels

from data_partition.celeba.labels import celeba_folder, read_labels
from fedml_spurious.common.errors import InputError

ATTRIBUTES, IDENTITIES, PARTITION = "list_attr_celeba.txt", "identity_CelebA.txt", "list_eval_partition.txt"
NAMES = "Bald Blond_Hair Male Young"


@pytest.mark.parametrize("end", ["\n", "\r\n", " \r\n"])
def test_label_files_are_read_with_any_line_end(tmp_path: Path, end: str) -> None:
    expected = small_labels()
    write_labels(tmp_path, expected, end)
    actual = read_labels(tmp_path)
    for column in ("identity", "male", "blond", "partition"):
        np.testing.assert_array_equal(getattr(actual, column), getattr(expected, column))
    assert set(actual.checksums) == {ATTRIBUTES, IDENTITIES, PARTITION}


def test_group_is_label_plus_twice_blond(tmp_path: Path) -> None:
    labels = small_labels()
    slow = [2 * int(blond) + int(male) for male, blond in zip(labels.male, labels.blond, strict=True)]
    assert labels.group.tolist() == slow


def _replace_line(path: Path, line: int, text: str) -> None:
    lines = path.read_text().split("\n")
    lines[line - 1] = text
    path.write_text("\n".join(lines))


def _drop_last_rows(path: Path, count: int) -> None:
    path.write_text("\n".join(path.read_text().rstrip("\n").split("\n")[:-count]) + "\n")


def _insert_line(path: Path, line: int, text: str) -> None:
    lines = path.read_text().split("\n")
    path.write_text("\n".join([*lines[: line - 1], text, *lines[line - 1 :]]))


def _drop_line(path: Path, line: int) -> None:
    lines = path.read_text().split("\n")
    path.write_text("\n".join([*lines[: line - 1], *lines[line:]]))


# 120 images: the attribute file has 122 lines, the others 120.
BROKEN = {
    "page instead of attributes": (
        ATTRIBUTES,
        lambda p: p.write_text("<!DOCTYPE html><html>"),
        1,
        "web page",
    ),
    "page instead of identities": (IDENTITIES, lambda p: p.write_text("\n <html>"), 1, "web page"),
    "attributes: last rows": (
        ATTRIBUTES,
        lambda p: _drop_last_rows(p, 7),
        115,
        "113 rows.*120.*lacks the last 7",
    ),
    "identities: last rows": (
        IDENTITIES,
        lambda p: _drop_last_rows(p, 7),
        113,
        "113 rows.*120.*lacks the last 7",
    ),
    "partition: last rows": (
        PARTITION,
        lambda p: _drop_last_rows(p, 1),
        119,
        "119 rows.*120.*last 1",
    ),
    "attributes: empty": (ATTRIBUTES, lambda p: p.write_text(""), 1, "end of the file"),
    "identities: empty": (IDENTITIES, lambda p: p.write_text(""), 0, "0 rows"),
    "attributes: half a row": (ATTRIBUTES, lambda p: _replace_line(p, 122, "000120.jpg -1"), 122, "2 fields"),
    "attributes: header twice": (
        ATTRIBUTES,
        lambda p: _insert_line(p, 1, "image_id Male"),
        1,
        "extra header",
    ),
    "attributes: names twice": (
        ATTRIBUTES,
        lambda p: _insert_line(p, 3, "Bald Blond_Hair Male Young"),
        3,
        "4 fields",
    ),
    "attributes: no count": (ATTRIBUTES, lambda p: _drop_line(p, 1), 1, "number of images"),
    "attributes: no names": (ATTRIBUTES, lambda p: _drop_line(p, 2), 2, "names of the attributes"),
    "identities: header": (IDENTITIES, lambda p: _insert_line(p, 1, "image_id identity"), 1, "extra header"),
    "partition: header": (PARTITION, lambda p: _insert_line(p, 1, "image_id partition"), 1, "extra header"),
    "identities: CSV": (IDENTITIES, lambda p: p.write_text(p.read_text().replace(" ", ",")), 1, "celebrity"),
    "identities: one row lost": (IDENTITIES, lambda p: _drop_line(p, 50), 50, "expected 000050.jpg.*000051"),
    "attributes: one row lost": (ATTRIBUTES, lambda p: _drop_line(p, 50), 50, "expected 000048.jpg.*000049"),
    "identities: too many": (IDENTITIES, lambda p: _insert_line(p, 121, "000121.jpg 1"), 121, "1 row more"),
    "attributes: bad value": (
        ATTRIBUTES,
        lambda p: _replace_line(p, 4, "000002.jpg -1 0 -1 1"),
        4,
        "1 or -1.*'0'",
    ),
    "identities: bad value": (IDENTITIES, lambda p: _replace_line(p, 2, "000002.jpg 0"), 2, "celebrity"),
    "partition: bad value": (PARTITION, lambda p: _replace_line(p, 2, "000002.jpg 3"), 2, "0, 1 or 2"),
    "partition: binary": (PARTITION, lambda p: p.write_bytes(b"000001.jpg 0\n\xff\xfe"), 2, "no text"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_label_file_is_named_with_the_line(tmp_path: Path, case: str) -> None:
    write_labels(tmp_path, small_labels())
    name, damage, line, reason = BROKEN[case]
    damage(tmp_path / name)
    expected = f"^{re.escape(str(tmp_path / name))}: line {line}: .*{reason}"
    with pytest.raises(InputError, match=expected):
        read_labels(tmp_path)


@pytest.mark.parametrize(
    ("first", "second"),
    [(IDENTITIES, PARTITION), (ATTRIBUTES, PARTITION), (ATTRIBUTES, IDENTITIES)],
)
def test_label_files_under_each_others_names_are_told_so(tmp_path: Path, first: str, second: str) -> None:
    write_labels(tmp_path, small_labels())
    (tmp_path / first).rename(tmp_path / "other")
    (tmp_path / second).rename(tmp_path / first)
    (tmp_path / "other").rename(tmp_path / second)
    expected = f"{first} holds what belongs into {second}, {second} holds what belongs into {first}"
    with pytest.raises(InputError, match=re.escape(str(tmp_path))) as refused:
        read_labels(tmp_path)
    assert expected in str(refused.value) or ", ".join(reversed(expected.split(", "))) in str(refused.value)


@pytest.mark.parametrize("name", [ATTRIBUTES, IDENTITIES, PARTITION])
def test_a_missing_label_file_is_named(tmp_path: Path, name: str) -> None:
    write_labels(tmp_path, small_labels())
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"{name}: not found, it holds .*txt, .*txt.*--download"):
        read_labels(tmp_path)


def test_the_official_splits_are_needed_where_one_is_asked_for_alone(tmp_path: Path) -> None:
    write_labels(tmp_path, small_labels())
    whole = read_labels(tmp_path, partition=False)
    (tmp_path / PARTITION).unlink()
    found = read_labels(tmp_path, partition=False)
    assert found.partition is None
    assert np.array_equal(found.identity, whole.identity)
    assert np.array_equal(found.group, whole.group)
    assert whole.checksums == {**found.checksums, PARTITION: whole.checksums[PARTITION]}


@pytest.mark.parametrize("inside", ["celeba", ".", "celeba/celeba", "archive", "CelebA"])
def test_the_label_files_are_found_one_folder_deeper(tmp_path: Path, inside: str) -> None:
    write_labels(tmp_path / inside, small_labels())
    assert celeba_folder(tmp_path) == tmp_path / inside


def test_another_edition_is_told_what_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    for name in ("list_attr_celeba.csv", "list_eval_partition.csv"):
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match=r"none of list_attr.*holds list_attr_celeba\.csv, list_eval_par"):
        celeba_folder(tmp_path)


def test_the_folder_is_found_from_its_parent_and_from_itself(tmp_path: Path) -> None:
    write_labels(tmp_path / "celeba", small_labels())
    assert celeba_folder(tmp_path) == celeba_folder(tmp_path / "celeba") == tmp_path / "celeba"
    with pytest.raises(InputError, match=r"none of list_attr_celeba\.txt"):
        celeba_folder(tmp_path / "elsewhere")
