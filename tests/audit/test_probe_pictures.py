"""The pictures of the audit's page: each probe puts the donor's attribute on the image, and nothing else."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
PICTURE = REPOSITORY / "docs/figures/probes.png"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(REPOSITORY / "examples")
    import probe_pictures  # an example is no package; it is found where it lies

    return probe_pictures


def test_the_pictures_show_what_the_page_says(example: ModuleType, tmp_path: Path) -> None:
    found = example.examples()
    assert list(found) == ["colour", "region:1,27,23,27", "probe_pictures:brightness"]
    for image, donor, probed in found["colour"]:
        # The shape is the image's, and the hue the donor's: the shares of the channels.
        assert torch.equal(image.amax(dim=0) > 0, probed.amax(dim=0) > 0)
        hues = [one.sum(dim=(1, 2)) / one.sum() for one in (probed, donor, image)]
        torch.testing.assert_close(hues[0], hues[1], atol=0.02, rtol=0)
        assert (hues[0] - hues[2]).abs().max() > 0.05
    for image, donor, probed in found["region:1,27,23,27"]:
        inside = torch.zeros(28, 28, dtype=torch.bool)
        inside[1:27, 23:27] = True
        assert torch.equal(probed[:, inside], donor[:, inside])
        assert not torch.equal(probed[:, inside], image[:, inside])
        assert torch.equal(probed[:, ~inside], image[:, ~inside])
    for image, donor, probed in found["probe_pictures:brightness"]:
        assert float(probed.max()) == pytest.approx(float(donor.max()))
        assert float(probed.max()) != pytest.approx(float(image.max()), abs=0.1)
        torch.testing.assert_close(probed / probed.max(), image / image.max())
    example.draw(found).savefig(tmp_path / "probes.png", dpi=110)
    drawn, committed = (
        np.asarray(Image.open(path).convert("RGB")) for path in (tmp_path / "probes.png", PICTURE)
    )
    assert drawn.shape == committed.shape
    # Fonts differ between machines, images do not.
    assert np.mean(np.abs(drawn.astype(int) - committed) > 32) < 0.02
    assert PICTURE.stat().st_size <= 60_000
