from pathlib import Path
from typing import Any

import pytest
from celeba_raw import small_labels, write_images, write_labels
from click.testing import CliRunner
from torchvision.datasets import utils

from data_partition import celeba_real
from data_partition.celeba.download import download_celeba
from fedml_spurious.common.errors import RunError


def _refuse(*_given: Any) -> None:
    raise RuntimeError("Too many users have viewed or downloaded this file recently.\nPlease try later.")


def test_a_refusal_says_what_to_do_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "download_file_from_google_drive", _refuse)
    arguments = ["--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), "--download"]
    result = CliRunner().invoke(celeba_real.command, arguments)
    assert result.exit_code == 1
    assert "list_attr_celeba.txt: cannot be fetched (RuntimeError: Too many users" in result.stderr
    assert f"put it into {tmp_path / 'raw' / 'celeba'}" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_page_instead_of_the_file_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def send_page(_file_id: str, folder: Path, name: str, _md5: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("<html>")

    monkeypatch.setattr(utils, "download_file_from_google_drive", send_page)
    with pytest.raises(RunError, match="what came is not that file"):
        download_celeba(tmp_path)
    assert not list((tmp_path / "celeba").iterdir())


def test_what_is_there_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "download_file_from_google_drive", _refuse)
    write_labels(tmp_path / "celeba", small_labels())
    write_images(tmp_path / "celeba", [1])
    download_celeba(tmp_path)
