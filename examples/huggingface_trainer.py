"""Sparse training in Hugging Face's Trainer: one callback, here on a small BERT built from its config."""

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from regrow.integrations.transformers import Sparsify


class Sums(Dataset):  # type: ignore[type-arg]
    """Sequences of 16 digits, labelled by whether their sum is at least 72: made up, so that nothing is downloaded."""

    def __init__(self, size: int) -> None:
        self.digits = torch.randint(10, (size, 16), generator=torch.Generator().manual_seed(size))

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, at: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.digits[at], "labels": (self.digits[at].sum() >= 72).long()}


def model_of(seed: int = 0) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return BertForSequenceClassification(BertConfig(vocab_size=10, max_position_embeddings=16, **shape))


def train(
    folder: Path, sparsify: Sparsify, steps: int = 60, resume_from_checkpoint: str | None = None, **more: Any
) -> BertForSequenceClassification:
    """To the end of a run of so many steps, from the start or from a checkpoint."""
    model = model_of()
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        save_steps=steps // 2,
        per_device_train_batch_size=16,
        learning_rate=3e-3,
        use_cpu=True,
        report_to=[],
        logging_strategy="no",
        disable_tqdm=True,
        **more,
    )
    trainer = Trainer(model, arguments, train_dataset=Sums(512), eval_dataset=Sums(64), callbacks=[sparsify])
    trainer.train(resume_from_checkpoint=resume_from_checkpoint)
    return model


if __name__ == "__main__":
    sparsify = Sparsify(method="rigl-itop", density=0.2, every=10)  # the only new line
    model = train(Path("runs/huggingface"), sparsify)
    test = Sums(500)
    model.eval()
    with torch.no_grad():
        answers = model(input_ids=test.digits).logits.argmax(1)
    print(sparsify.sparsifier.summary())
    print(f"accuracy on 500 other sequences: {(answers == (test.digits.sum(1) >= 72)).float().mean():.3f}")
