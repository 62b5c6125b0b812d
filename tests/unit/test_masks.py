"""Masks in and out: .npz, state_dicts, torch.nn.utils.prune, tickets, checkpoints; and what is no mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune as torch_prune

import regrow
from regrow import RegrowError, Ticket, Topology
from regrow.tickets import masks


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def sparse_mlp() -> tuple[nn.Module, Topology]:
    model = mlp()
    sparsifier = regrow.sparsify(model, torch.optim.SGD(model.parameters()), method="static", density=0.3)
    topology = sparsifier.topology
    return sparsifier.finalize(), topology


def start_from(topology: Topology, **setup: object) -> Topology:
    model = mlp()
    return regrow.sparsify(
        model, torch.optim.SGD(model.parameters()), method="static", topology=topology, **setup
    ).topology


def test_every_file_gives_the_same_topology(tmp_path: Path) -> None:
    model, topology = sparse_mlp()
    masks.write(topology, tmp_path / "masks.npz")
    Ticket.of(model, topology).save(tmp_path / "ticket.safetensors")
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    torch.save(model.state_dict(), tmp_path / "state.pt")
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "checkpoint.pth")
    torch.save(masks.prune(mlp(), topology).state_dict(), tmp_path / "pruned.pt")
    torch.save({"content": {"step": 1, "sparsifier": {"topology": topology.pack()}}}, tmp_path / "run.pt")
    torch.save({"content": topology.pack()}, tmp_path / "topology.pt")
    for path in tmp_path.iterdir():
        found = masks.read(path)
        assert found.digest() == topology.digest(), path.name
        assert start_from(found).digest() == topology.digest()
    with np.load(tmp_path / "masks.npz") as arrays:
        assert {name: (arrays[name].dtype, arrays[name].shape) for name in arrays.files} == {
            "0.weight": (np.dtype(bool), (16, 8)),
            "2.weight": (np.dtype(bool), (4, 16)),
        }


def test_a_live_network_of_torch_prune() -> None:
    model = mlp()
    pairs = [(model[0], "weight"), (model[2], "weight")]
    torch_prune.global_unstructured(pairs, torch_prune.L1Unstructured, amount=150)
    torch_prune.l1_unstructured(model[0], "bias", amount=3)  # no site
    topology = masks.of_state(model.state_dict())
    assert topology.nnz == topology.numel - 150
    for name, layer in (("0.weight", model[0]), ("2.weight", model[2])):
        assert torch.equal(topology[name], layer.weight_mask.bool())
    assert start_from(topology).digest() == topology.digest()


def test_to_torch_prune_and_plain_again() -> None:
    model, topology = sparse_mlp()
    pruned = masks.prune(mlp(), topology)
    x = torch.randn(3, 8)
    assert torch.equal(pruned(x), model(x))
    for layer in (pruned[0], pruned[2]):
        torch_prune.remove(layer, "weight")
    assert all(torch.equal(v, pruned.state_dict()[k]) for k, v in model.state_dict().items())
    with pytest.raises(RegrowError, match=r"'0\.weight' has shape \(16, 8\) in the topology, \(16, 9\) in the model"):
        masks.prune(nn.Sequential(nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 4)), topology)


def test_a_fused_projection_is_three_sites(tmp_path: Path) -> None:
    attention = nn.MultiheadAttention(4, 2)
    with torch.no_grad():
        attention.in_proj_weight[:, 0] = 0.0
    topology = masks.of_state(attention.state_dict())
    assert {name: topology.nnz_of(name) for name in topology} == {f"in_proj_weight[{p}]": 12 for p in "qkv"}
    masks.write(topology, tmp_path / "m.npz")
    assert masks.read(tmp_path / "m.npz") == topology
    np.savez(tmp_path / "whole.npz", in_proj_weight=(attention.in_proj_weight != 0).numpy())
    assert masks.read(tmp_path / "whole.npz") == topology
    pruned = masks.prune(nn.MultiheadAttention(4, 2), topology)
    assert masks.of_state(pruned.state_dict()) == topology


def test_what_is_no_mask(tmp_path: Path) -> None:
    with pytest.raises(RegrowError, match=r"nothing\.npz: no such file; a mask is one of \.npz"):
        masks.read(tmp_path / "nothing.npz")
    np.savez(tmp_path / "weights.npz", w=np.array([[0.5, 1.0]]))
    with pytest.raises(RegrowError, match=r"weights\.npz: a mask is an array of 0 and 1 .*'w' has other values"):
        masks.read(tmp_path / "weights.npz")
    torch.save({**mlp().state_dict()}, tmp_path / "dense.pt")
    with pytest.raises(RegrowError, match=r"dense\.pt: no mask in it: none of its 4 tensors .*it holds 0\.weight"):
        masks.read(tmp_path / "dense.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(RegrowError, match=r"it holds list, not a state_dict"):
        masks.read(tmp_path / "list.pt")
    for suffix in masks.SUFFIXES:
        damaged = tmp_path / f"damaged{suffix}"
        damaged.write_bytes(b"not at all")
        with pytest.raises(RegrowError, match=rf"damaged\{suffix}: cannot be read as a mask"):
            masks.read(damaged)
    with pytest.raises(RegrowError, match=r"masks are written as \.npz"):
        masks.write(Topology.full({"a": (2, 2)}), tmp_path / "a.pt")


def test_a_mask_that_does_not_fit_is_refused_with_both_shapes() -> None:
    with pytest.raises(RegrowError, match=r"differ: 0\.weight \(16x9, 16x8\), 4\.weight \(4x16, none\) \(shape given"):
        start_from(Topology.full({"0.weight": (16, 9), "2.weight": (4, 16), "4.weight": (4, 16)}))


def test_masks_of_a_sparsifier_of_torch_ao() -> None:
    """Its models save no mask; its own state_dict holds them, and squashing leaves zeros."""
    from torch.ao.pruning import WeightNormSparsifier

    model = mlp()
    theirs = WeightNormSparsifier(sparsity_level=0.5, sparse_block_shape=(1, 1), zeros_per_block=1)
    theirs.prepare(model, [{"tensor_fqn": "0.weight"}])
    theirs.step()
    topology = masks.of_state(theirs.state_dict())
    assert {name: topology.nnz_of(name) for name in topology} == {"0.weight": 64}
    theirs.squash_mask()
    assert masks.of_state(model.state_dict()) == topology


class Masked(nn.Module):
    """A parametrization that keeps its mask with the model, as sparsimony's do."""

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.mask


def test_masks_of_parametrizations_and_wrapped_models() -> None:
    model, topology = sparse_mlp()
    wrapped = {f"module._orig_mod.{name}": value for name, value in model.state_dict().items()}
    assert masks.of_state(wrapped) == topology
    parametrized = mlp()
    for name, mask in topology.items():
        nn.utils.parametrize.register_parametrization(parametrized[int(name[0])], "weight", Masked(mask))
    assert masks.of_state(parametrized.state_dict()) == topology
