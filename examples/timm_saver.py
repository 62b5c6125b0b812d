"""Sparse training with timm's parts: its model, optimizer, scheduler and EMA; its CheckpointSaver keeps the masks."""

from pathlib import Path

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.functional import cross_entropy

import regrow
from regrow.integrations.timm import SparseSaver
from regrow.sparsifier import Sparsifier

EPOCHS, STEPS = 4, 8  # a tiny run on made-up images


def train(folder: Path, last: int = EPOCHS, resume: Path | None = None) -> tuple[nn.Module, nn.Module, Sparsifier]:
    """Model, its moving average and the sparsifier after `last` epochs, from the start or from a checkpoint."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=4)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    scheduler = CosineLRScheduler(optimizer, t_initial=EPOCHS)
    sparsifier = regrow.sparsify(  # the only new line; before the moving average, which copies the model
        model, optimizer, method="rigl-itop", density=0.2, every=4, total_steps=EPOCHS * STEPS
    )
    average = ModelEmaV3(model, decay=0.9)
    saver = SparseSaver(model, optimizer, sparsifier=sparsifier, model_ema=average, checkpoint_dir=str(folder))
    first = 0
    if resume:
        first = timm.models.resume_checkpoint(model, str(resume), optimizer, log_info=False)
        timm.models.load_checkpoint(average.module, str(resume), use_ema=True)
        saver.load_state_dict_from_checkpoint(str(resume))
        scheduler.step(first)
    for epoch in range(first, last):
        for step in range(STEPS):
            draw = torch.Generator().manual_seed(epoch * STEPS + step)
            x, y = torch.randn(16, 3, 32, 32, generator=draw), torch.randint(4, (16,), generator=draw)
            cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            average.update(model)
        scheduler.step(epoch + 1)
        saver.save_checkpoint(epoch, metric=float(epoch))
    return model, average.module, sparsifier


if __name__ == "__main__":
    folder = Path("runs/timm")
    folder.mkdir(parents=True, exist_ok=True)
    model, average, sparsifier = train(folder)
    sparsifier.finalize()
    print(sparsifier.summary())
