"""What tests of several places share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["DARKPY_TUNE"] = "off"  # tests of measured kernels switch it on: measuring takes time, and chance decides


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real images, labels and weights: a folder `shared` beside the checkout, which not every checkout has."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no folder `shared` beside the checkout")
    return folder
