"""Sparse training on several processes: torchrun --nproc_per_node 2 examples/ddp_loop.py

Each rank decides alike; nothing of regrow's is broadcast. Run it again and it goes on from its checkpoint.
"""

import gc
from pathlib import Path

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import regrow

CHECKPOINT, EPOCHS = Path("runs/ddp.pt"), 6


def train(last: int = EPOCHS) -> None:
    """Epochs up to `last`, from the start or from the checkpoint."""
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images[:1400], dtype=torch.float32) / 16, torch.tensor(labels[:1400]))
    sampler = DistributedSampler(data, seed=0, drop_last=True)
    loader = DataLoader(data, 32, sampler=sampler, drop_last=True)
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 10)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sparsifier = regrow.sparsify(  # the only new line
        model, optimizer, method="rigl-itop", density=0.1, every=10, total_steps=EPOCHS * len(loader)
    )
    first = 0
    if CHECKPOINT.exists():
        saved = torch.load(CHECKPOINT, weights_only=True)
        sparsifier.load_state_dict(saved["sparsifier"])
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["epochs"]
    for epoch in range(first, last):
        sampler.set_epoch(epoch)
        for x, y in loader:
            cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    if dist.get_rank() == 0:
        CHECKPOINT.parent.mkdir(exist_ok=True)
        parts = {"model": model, "optimizer": optimizer, "sparsifier": sparsifier}
        torch.save({name: part.state_dict() for name, part in parts.items()} | {"epochs": last}, CHECKPOINT)
        x, y = torch.tensor(images[1400:], dtype=torch.float32) / 16, torch.tensor(labels[1400:])
        accuracy = (model.module(x).argmax(1) == y).float().mean()
        print(f"R_s {sparsifier.exploration_rate:.3f}, accuracy on the 397 images left out: {accuracy:.3f}")
    dist.barrier()


if __name__ == "__main__":
    dist.init_process_group("gloo")  # "nccl" on GPUs
    train()
    gc.collect()  # the model sits in a cycle (DistributedDataParallel's own): free it before its group
    dist.destroy_process_group()
