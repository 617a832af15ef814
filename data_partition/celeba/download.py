"""Fetching CelebA through torchvision, which takes it from Google Drive."""

from __future__ import annotations

import logging
from pathlib import Path

from data_partition.celeba.images import IMAGE_FOLDER, IMAGE_ZIP
from data_partition.celeba.labels import FOLDER, LABEL_FILES
from fedml_spurious.common.errors import RunError

logger = logging.getLogger(__name__)

_PAGE = "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


def download_celeba(raw: Path) -> None:
    """Fetch the label files and the zip of images into ``raw/celeba``; files that are there stay.

    Raises:
        RunError: the host refused, which Google Drive often does, or sent something else.
    """
    # Torchvision imports torch, which only a download needs.
    from torchvision.datasets import CelebA
    from torchvision.datasets.utils import check_integrity, download_file_from_google_drive

    folder = raw / FOLDER
    known = {name: (file_id, md5) for file_id, md5, name in CelebA.file_list}
    for name in (*LABEL_FILES, IMAGE_ZIP):
        target = folder / name
        if target.exists() or (name == IMAGE_ZIP and (folder / IMAGE_FOLDER).is_dir()):
            continue
        file_id, md5 = known[name]
        reason = "what came is not that file"
        logger.info("Fetching %s", target)
        try:
            download_file_from_google_drive(file_id, folder, name, md5)
        except Exception as error:  # noqa: BLE001 - torchvision hands on whatever its helper raises
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if not target.exists() or not check_integrity(target, md5):
            target.unlink(missing_ok=True)
            raise RunError(
                f"{target}: cannot be fetched ({reason}). Google Drive often refuses this file, because many "
                f"people ask for it. Download {name} in a browser, by the links on {_PAGE}, and put it into "
                f"{folder}; files that are there are not fetched again"
            )
