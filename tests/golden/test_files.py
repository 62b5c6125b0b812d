"""The golden numbers are in the clone, whole and small: a test that lacks its file fails."""

from __future__ import annotations

import json

import numpy as np
import pytest
from replay import DATA, Golden

NAMES = {
    "drop_grow_itop",
    "ensemble_metrics",
    "erk_densities",
    "explored",
    "granet",
    "rigl_torch_update",
    "saliency",
    "schedules",
    "sup_average",
    "tost",
}


def test_all_files_are_here_and_small() -> None:
    files = list(DATA.glob("*.npz"))
    assert {file.stem for file in files} == NAMES
    assert sum(file.stat().st_size for file in files) < 1_000_000


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_file_names_its_source(name: str) -> None:
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as file:
        meta = json.loads(str(file["meta"]))
    assert all(len(source["commit"]) == 40 and "/" in source["repo"] for source in meta["source"])


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        Golden("never_made")
