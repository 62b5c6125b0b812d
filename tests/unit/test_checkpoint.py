"""Checkpoints: read back as written, or refused in one paragraph."""

from __future__ import annotations

from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from regrow.core.errors import RegrowError
from regrow.train import checkpoint

CONTENT: dict[str, Any] = {
    "step": 7,
    "model": OrderedDict(w=torch.arange(6.0).view(2, 3).t(), b=torch.tensor(2.5, dtype=torch.bfloat16)),
    "optimizer": {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"lr": 0.1, "params": [0], "f": None}]},
    "scheduler": {"milestones": Counter({3: 1}), "base": (0.1, float("inf")), "on": True},
    "empty": torch.zeros(0, 3),
}


def test_reads_back_what_was_written(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "new" / "checkpoint.pt", CONTENT)
    loaded = checkpoint.load(tmp_path / "new" / "checkpoint.pt")
    assert checkpoint.digest(loaded) == checkpoint.digest(CONTENT)
    assert torch.equal(loaded["model"]["w"], CONTENT["model"]["w"])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize(
    "other",
    [
        {"a": torch.tensor([1.0, -0.0])},
        {"a": torch.tensor([1.0, 0.0], dtype=torch.float64)},
        {"a": torch.tensor([[1.0, 0.0]])},
        {"b": torch.tensor([1.0, 0.0])},
        {"a": [1.0, 0.0]},
        {"a": torch.tensor([1.0, 0.0]), "b": None},
    ],
)
def test_the_digest_sees_every_bit(other: dict[str, Any]) -> None:
    assert checkpoint.digest(other) != checkpoint.digest({"a": torch.tensor([1.0, 0.0])})


@pytest.mark.parametrize("pair", [(1, True), (1, 1.0), ("1", 1), (["a", "b"], ["ab"]), ([[1], 2], [[1, 2]])])
def test_the_digest_sees_types_and_nesting(pair: tuple[Any, Any]) -> None:
    assert checkpoint.digest(pair[0]) != checkpoint.digest(pair[1])


def refusal(path: Path) -> str:
    with pytest.raises(RegrowError) as caught:
        checkpoint.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert "delete the file and run again" in message
    return message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "checkpoint.pt", CONTENT)
    return tmp_path / "checkpoint.pt"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "cannot be read" in refusal(path)


def test_every_flipped_bit_in_a_tensor_is_found(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    weights = bytes(torch.arange(6.0).numpy().tobytes())
    at = whole.find(weights)
    assert at > 0
    for offset in range(len(weights)):
        broken = whole.copy()
        broken[at + offset] ^= 1
        path.write_bytes(broken)
        refusal(path)


def test_rubbish(path: Path) -> None:
    path.write_bytes(b"not a checkpoint at all")
    assert "cannot be read" in refusal(path)


def test_missing(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("foreign", [torch.zeros(3), {"state_dict": {}}, [1, 2]])
def test_foreign(path: Path, foreign: object) -> None:
    torch.save(foreign, path)
    assert "is not a checkpoint of regrow" in refusal(path)


def test_a_file_with_code_is_not_run(path: Path) -> None:
    torch.save({"regrow_checkpoint": 1, "content": Path("x")}, path)
    assert "cannot be read" in refusal(path)


def test_another_format(path: Path) -> None:
    torch.save({"regrow_checkpoint": 99, "digest": "", "content": {}}, path)
    assert "has format 99, this version of regrow reads 2" in refusal(path)


def test_altered_content(path: Path) -> None:
    stored = torch.load(path, weights_only=True)
    stored["content"]["step"] = 8
    torch.save(stored, path)
    assert "its digest differs" in refusal(path)


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(RegrowError, match=r"content\['scheduler'\]\['fn'\], a builtins.function"):
        checkpoint.save(tmp_path / "checkpoint.pt", {"scheduler": {"fn": refusal}})
    assert not list(tmp_path.iterdir())
