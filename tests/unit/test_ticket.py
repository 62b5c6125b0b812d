"""Tickets as values and as files: read back as written, or refused in one sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from regrow import RegrowError, Ticket, Topology
from regrow.tickets.compare import distances, overlaps


def ticket(seed: int = 0, density: float = 0.3, shape: tuple[int, int] = (8, 12)) -> Ticket:
    draw = torch.Generator().manual_seed(seed)
    topology = Topology.from_masks({"fc.weight": torch.rand(shape, generator=draw) < density})
    values = torch.randn(topology.nnz, generator=draw)
    return Ticket(
        {"fc.weight": values, "fc.bias": torch.randn(shape[0], generator=draw)}, topology, {"seed": str(seed)}
    )


def same(a: Ticket, b: Ticket) -> bool:
    tensors = a.state.keys() == b.state.keys() and all(torch.equal(a.state[k], b.state[k]) for k in a.state)
    return tensors and a.topology == b.topology and (a.meta, a.tied) == (b.meta, b.tied)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ticket().save(tmp_path / "t.safetensors")
    return tmp_path / "t.safetensors"


@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_reads_back_what_was_written(tmp_path: Path, density: float, dtype: torch.dtype) -> None:
    kept = ticket(density=density)
    kept = Ticket({k: v.to(dtype) for k, v in kept.state.items()}, kept.topology, {"a": "b"}, {"alias": "fc.weight"})
    kept.save(tmp_path / "folder" / "t.safetensors")
    assert same(Ticket.load(tmp_path / "folder" / "t.safetensors"), kept)
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["t.safetensors"]


def test_the_file_is_as_small_as_what_it_holds(tmp_path: Path) -> None:
    big = ticket(density=0.05, shape=(400, 500))
    big.save(tmp_path / "t.safetensors")
    size, dense = (tmp_path / "t.safetensors").stat().st_size, 4 * 400 * 500
    assert size < 0.05 * dense + 0.012 * dense + 4 * 400 + 1000  # values, positions at a third of a bit a weight, bias
    assert big.nbytes == 2 * 4 * big.topology.nnz + 4 * 400


def test_any_tool_reads_the_tensors(path: Path) -> None:
    assert torch.equal(load_file(path)["fc.weight"], ticket().state["fc.weight"])


def refusal(path: Path) -> str:
    with pytest.raises(RegrowError) as caught:
        Ticket.load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_a_flipped_bit_is_found_wherever_it_is(path: Path) -> None:
    whole = path.read_bytes()
    for at in range(len(whole)):
        broken = bytearray(whole)
        broken[at] ^= 1 << (at % 8)
        path.write_bytes(broken)
        refusal(path)
    path.write_bytes(whole)
    assert same(Ticket.load(path), ticket())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.9, 0.999])
def test_truncated(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "cannot be read as a ticket" in refusal(path)
    assert "Put a good copy back" in refusal(path)


def test_missing(path: Path) -> None:
    path.rename(path.with_name("other.safetensors"))
    assert "does not exist" in refusal(path)


def test_foreign(path: Path) -> None:
    save_file({"w": torch.ones(3)}, path)
    assert "is no ticket of regrow" in refusal(path)
    torch.save({"w": torch.ones(3)}, path)
    assert "cannot be read as a ticket" in refusal(path)
    path.write_text("not a ticket at all")
    assert "cannot be read as a ticket" in refusal(path)
    path.unlink()
    path.mkdir()
    assert "cannot be read as a ticket" in refusal(path)


def rewritten(path: Path, **changes: str) -> None:
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    save_file(load_file(path), path, header["__metadata__"] | changes)


def test_of_a_newer_version(path: Path) -> None:
    rewritten(path, regrow_ticket="2")
    assert "has ticket format '2', this version of regrow reads 1. Install the version" in refusal(path)


def test_altered_words(path: Path) -> None:
    rewritten(path, meta='{"seed": "1"}')
    assert "its checksum differs" in refusal(path)


def test_values_that_do_not_fit_the_topology() -> None:
    topology = Topology.from_masks({"w": torch.eye(3)})
    with pytest.raises(RegrowError, match=r"nothing for site 'w'; its topology has 3 values"):
        Ticket({}, topology)
    with pytest.raises(RegrowError, match=r"a tensor of shape \(3, 3\) for site 'w'"):
        Ticket({"w": torch.eye(3)}, topology)


def dense(ticket: Ticket) -> Tensor:
    return ticket.state_dict()["fc.weight"].double()


def test_overlaps_and_distances() -> None:
    tickets = [ticket(seed) for seed in range(3)]
    masks = [t.topology["fc.weight"] for t in tickets]
    for i in range(3):
        for j in range(3):
            shared = int((masks[i] & masks[j]).sum()) / int((masks[i] | masks[j]).sum())
            assert math.isclose(float(overlaps(tickets)[i, j]), shared)
            apart = float((dense(tickets[i]) - dense(tickets[j])).norm())
            assert math.isclose(float(distances(tickets)[i, j]), apart, abs_tol=1e-12)
    with pytest.raises(RegrowError, match="tickets of different sites"):
        overlaps([tickets[0], ticket(shape=(3, 4))])


def test_into_a_model_of_another_architecture() -> None:
    class Other(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.fc = nn.Linear(12, width)

    model = Other(9)
    before = model.fc.weight.clone()
    with pytest.raises(RegrowError, match=r"'fc.bias' is \(8,\) in the ticket and \(9,\) in the model, and 1 more"):
        ticket().apply(model)
    assert torch.equal(model.fc.weight, before)
    with pytest.raises(RegrowError, match=r"the model has no such weight"):
        ticket().apply(nn.Linear(12, 8))
    assert torch.equal(ticket().apply(Other(8)).fc.weight, ticket().state_dict()["fc.weight"])  # type: ignore[arg-type]
