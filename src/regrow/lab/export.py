"""`regrow export`: a trained network in the formats that others read, checked against the model."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regrow.core import files
from regrow.core.errors import RegrowError, choose
from regrow.lab.fold import without_norms
from regrow.lab.trained import Trained
from regrow.tickets.file import content_of

TOLERANCE = 1e-4
"""Largest difference of an exported model's answers from ours, relative to the largest answer."""


def export(trained: Trained, kinds: Iterable[str], folder: Path, fold: bool = False) -> dict[str, Path]:
    """Write the formats into `folder`; kind -> file. `fold`: with batch normalisation folded into the layers before.

    Raises:
        RegrowError: an unknown kind, a library that is missing, a model the format cannot hold, answers that differ;
            a model with nothing to fold, a ticket to be folded.
    """
    wanted = {kind: choose(FORMATS, kind, "format") for kind in kinds}
    if fold:
        trained = _folded(trained, wanted)
    names = {kind: name.replace("model", "folded") if fold else name for kind, (name, _) in wanted.items()}
    return {kind: _write(folder / names[kind], make(trained)) for kind, (_, make) in wanted.items()}


def _folded(trained: Trained, kinds: Iterable[str]) -> Trained:
    """The same network for inference alone, after a comparison of its answers."""
    if "ticket" in kinds:
        raise RegrowError("a ticket is a network as it is trained: export it without --fold")
    model = without_norms(trained.model)
    _check(trained, "the folded model", model)
    return replace(trained, model=model)


def _write(path: Path, content: bytes) -> Path:
    files.write(path, content)
    return path


def _state_dict(trained: Trained) -> bytes:
    buffer = io.BytesIO()
    torch.save(trained.model.state_dict(), buffer)
    return buffer.getvalue()


def _safetensors(trained: Trained) -> bytes:
    from safetensors.torch import save

    tensors = {key: value.clone().contiguous() for key, value in trained.model.state_dict().items()}  # tied ones apart
    return save(tensors, {"format": "pt"})


def _ticket(trained: Trained) -> bytes:
    if trained.ticket is None:
        raise RegrowError(f"{trained.name} is dense: it has no topology that a ticket could hold. Export safetensors")
    return content_of(trained.ticket)


def _onnx(trained: Trained) -> bytes:
    try:
        import onnxruntime  # type: ignore[import-untyped, unused-ignore]
        import onnxscript  # noqa: F401  # the exporter's own need, asked for here so that the error says the way out
    except ImportError as error:
        raise RegrowError(f"ONNX needs {error.name}: pip install 'regrow[onnx]'") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with _quiet():
        program: Any = torch.onnx.export(
            trained.model,
            (_inputs(trained, 2),),
            dynamo=True,
            verbose=False,
            input_names=["input"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    content: bytes = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    _check(trained, "onnxruntime", lambda x: torch.from_numpy(session.run(None, {"input": x.numpy()})[0]))
    return content


def _torch_export(trained: Trained) -> bytes:
    buffer = io.BytesIO()
    with _quiet():
        program = torch.export.export(
            trained.model, (_inputs(trained, 2),), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        torch.export.save(program, buffer)
        buffer.seek(0)
        loaded: Any = torch.export.load(buffer).module()
    _check(trained, "torch.export", loaded)
    return buffer.getvalue()


Format = tuple[str, Callable[[Trained], bytes]]
FORMATS: dict[str, Format] = {
    "state_dict": ("model.pt", _state_dict),
    "safetensors": ("model.safetensors", _safetensors),
    "ticket": ("ticket.safetensors", _ticket),
    "onnx": ("model.onnx", _onnx),
    "torch.export": ("model.pt2", _torch_export),
}
"""Kind -> the file's name, and what is written."""


def _inputs(trained: Trained, size: int) -> Tensor:
    return torch.randn(size, *trained.data.shape, generator=torch.Generator().manual_seed(size))


@torch.no_grad()
def _check(trained: Trained, engine: str, answer: Callable[[Tensor], Tensor]) -> None:
    """The exported model answers as ours does, on batches of other sizes than it was traced with."""
    for size in (1, 5):
        x = _inputs(trained, size)
        ours, theirs = trained.model(x), answer(x)
        apart = float((ours - theirs).abs().max() / ours.abs().max().clamp_min(1.0))
        if not apart <= TOLERANCE:
            raise RegrowError(
                f"{engine} answers {apart:.2g} apart from the model on a batch of {size}, more than {TOLERANCE:g}: the "
                "file is not written. Please report the model"
            )


class _quiet(warnings.catch_warnings):
    """What torch's exporters say of their own deprecated parts."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
