"""Sparse training in Lightning: one callback. Its checkpoints hold the masks and R_s, and resume bit for bit."""

from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from regrow.integrations.lightning import Sparsify


class Digits(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        x, y = batch
        return cross_entropy(self.model(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def train(folder: Path, sparsify: Sparsify, epochs: int, ckpt_path: Path | str | None = None) -> Digits:
    """To the end of so many epochs, from the start or from a checkpoint."""
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images[:1400], dtype=torch.float32) / 16, torch.tensor(labels[:1400]))
    torch.manual_seed(0)
    model = Digits()
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=[sparsify, ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)],
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(data, batch_size=64, drop_last=True), ckpt_path=ckpt_path)
    return model


if __name__ == "__main__":
    folder = Path("runs/lightning")
    sparsify = Sparsify(method="rigl-itop", density=0.1, every=10)  # the only new line
    model = train(folder, sparsify, epochs=6)
    images, labels = load_digits(return_X_y=True)
    answers = model.model(torch.tensor(images[1400:], dtype=torch.float32) / 16).argmax(1)
    print(sparsify.sparsifier.summary())
    print(f"accuracy on the 397 images left out: {(answers == torch.tensor(labels[1400:])).float().mean():.3f}")
