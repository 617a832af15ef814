"""The wheel holds what runs need outside the repository, and nothing that belongs to others."""

from __future__ import annotations

import base64
import csv
import hashlib
import zipfile
from pathlib import Path

import pytest
from environments import PACKAGES, REPOSITORY


@pytest.fixture
def archive(wheel: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(wheel)


def test_every_module_and_configuration_is_in_the_wheel(archive: zipfile.ZipFile, sources: Path) -> None:
    modules = [path for package in PACKAGES for path in (sources / package).rglob("*.py")]
    configurations = list((sources / "fedml_configs").glob("*.yaml"))
    counts = list((sources / "data_partition/celeba/group_counts").glob("*.yaml"))
    assert configurations
    assert counts
    expected = {str(path.relative_to(sources)) for path in modules + configurations + counts}
    assert expected <= set(archive.namelist())


def test_the_wheel_has_the_type_markers_and_the_licence(archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    assert {"fedml_spurious/py.typed", "data_partition/py.typed"} <= set(names)
    (licence,) = [name for name in names if name.endswith("/licenses/LICENSE")]
    assert archive.read(licence) == (REPOSITORY / "LICENSE").read_bytes()
    metadata = archive.read(licence.partition("/")[0] + "/METADATA").decode()
    for line in ("License-Expression: Apache-2.0", "License-File: LICENSE", "Classifier: Typing :: Typed"):
        assert f"{line}\n" in metadata


def test_nothing_is_installed_under_a_name_of_others(archive: zipfile.ZipFile) -> None:
    roots = {name.partition("/")[0] for name in archive.namelist()}
    info = next(root for root in roots if root.endswith(".dist-info"))
    assert roots == {*PACKAGES, "fedml_spurious.pth", info}
    assert archive.read(f"{info}/entry_points.txt").decode().split() == [
        "[console_scripts]",
        "fedml-spurious",
        "=",
        "fedml_spurious.cli:main",
    ]


def test_the_start_up_file_is_recorded_with_its_hash(archive: zipfile.ZipFile) -> None:
    """Uninstallers remove what RECORD lists; its hash is unpadded base64 of the SHA-256 (PEP 376)."""
    record = next(name for name in archive.namelist() if name.endswith("/RECORD"))
    rows = {row[0]: row[1] for row in csv.reader(archive.read(record).decode().splitlines())}
    content = (REPOSITORY / "fedml_spurious.pth").read_bytes()
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    assert rows["fedml_spurious.pth"] == f"sha256={digest}"
