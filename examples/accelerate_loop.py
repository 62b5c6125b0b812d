"""Sparse training with Accelerate: its save_state and load_state keep the masks and R_s, and resume bit for bit."""

from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, set_seed
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from regrow.integrations.accelerate import sparsify_with
from regrow.sparsifier import Sparsifier

BATCH, STEPS_PER_EPOCH = 64, 21


def train(
    folder: Path, epochs: int = 6, first: int = 0, last: int = 6, backend: str = "masked"
) -> tuple[nn.Module, Sparsifier]:
    """The epochs `first` to `last` of a run of `epochs`; a later first one goes on from the checkpoint in `folder`."""
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images[:1400], dtype=torch.float32) / 16, torch.tensor(labels[:1400]))
    set_seed(0)
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True))
    model = nn.Sequential(nn.Linear(64, 300), nn.ReLU(), nn.Dropout(0.1), nn.Linear(300, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loader = DataLoader(data, BATCH, shuffle=True, drop_last=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    steps = {"every": 10, "total_steps": epochs * STEPS_PER_EPOCH}
    sparsifier = sparsify_with(  # the only new line
        accelerator, model, optimizer, method="rigl-itop", density=0.1, backend=backend, **steps
    )
    if first:
        accelerator.load_state(str(folder))
    for epoch in range(first, last):
        loader.set_epoch(epoch)
        for x, y in loader:
            accelerator.backward(cross_entropy(model(x), y))
            optimizer.step()
            optimizer.zero_grad()
    accelerator.save_state(str(folder))
    return model, sparsifier


if __name__ == "__main__":
    folder = Path("runs/accelerate")
    train(folder, last=3)
    model, sparsifier = train(folder, first=3)
    sparsifier.finalize()
    images, labels = load_digits(return_X_y=True)
    answers = model.eval()(torch.tensor(images[1400:], dtype=torch.float32) / 16).argmax(1)
    print(sparsifier.summary())
    print(f"accuracy on the 397 images left out: {(answers == torch.tensor(labels[1400:])).float().mean():.3f}")
