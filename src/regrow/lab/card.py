"""The model card that goes with an export: Markdown, with the run's own numbers and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from regrow.lab.trained import Trained
from regrow.train.record import Record, read_json

CARD = "MODEL_CARD.md"

_LOADING = {
    "state_dict": "model.load_state_dict(torch.load({file!r}, weights_only=True))",
    "safetensors": "model.load_state_dict(safetensors.torch.load_file({file!r}))",
    "ticket": "model = regrow.load({file!r}, model)    # executes only the weights that exist, on the CPU",
    "onnx": "onnxruntime.InferenceSession({file!r}).run(None, {{'input': images}})",
    "torch.export": "torch.export.load({file!r}).module()(images)",
}

_FOLDING = "\nmodel = regrow.lab.fold.without_norms(model)    # batch normalisation is part of the layers before"


def card(trained: Trained, exported: Mapping[str, Path], fold: bool = False) -> str:
    """The card of what was exported, kind -> file; `fold`: without batch normalisation."""
    recipe, folder = trained.recipe, trained.folder
    result = read_json(folder.result) if folder.finished else {}
    environment = read_json(folder.environment) if folder.environment.exists() else {}
    method = f"{recipe.method.name}, {recipe.backend} backend" if recipe.method else "dense training"
    if not folder.finished:
        numbers = "The run is not finished: there are no test numbers."
    else:
        numbers = _table({"measure": "value"} | _quality(trained, result) | _cost(trained, result))
    shape = "x".join(map(str, trained.data.shape))
    about = {
        "model": f"{recipe.model.name}, inputs {shape}, {trained.data.classes} classes",
        "data": recipe.data.name,
        "an input": _normalised(trained),
        "method": method,
        "run": f"{folder.path.parent.name}, seed {recipe.seeds[0]}",
        "made with": f"regrow {environment.get('regrow', '?')}, torch {environment.get('torch', '?')}",
        "commit": str(environment.get("commit") or "unknown"),
    }
    files = {"file": "bytes", **{f"`{path.name}`": f"{path.stat().st_size:,}" for path in exported.values()}}
    loading = "\n".join(_LOADING[kind].format(file=path.name) for kind, path in exported.items())
    return f"""# {recipe.name}

{recipe.about or "A network trained by regrow."}

{_table({"what": "is"} | about)}

## Numbers

{numbers}

Test numbers are of the data set's own test split, measured once at the end of the run. They say nothing of other data.

## Files

{_table(files)}

```python
{_model(trained)}{_FOLDING if fold else ""}
{loading}
```

Answers are logits. Sparsity saves time with `regrow.load` on the CPU; ONNX and the plain formats hold the zeros and
compute with them.
"""


def _quality(trained: Trained, result: Record) -> dict[str, str]:
    """Of the ticket itself, where the run has judged it; of the run's last iterate."""
    judged = result
    if trained.name.endswith(".safetensors"):
        file = Path(trained.name).name
        rows = [*result.get("tickets", ()), {**(result.get("superposed") or {}), "file": "superposed.safetensors"}]
        judged = next((row for row in rows if Path(str(row["file"])).name == file), {})
    if judged.get("test_accuracy") is None:
        return {"test accuracy": "not measured"}
    return {
        "test accuracy": f"{100 * judged['test_accuracy']:.2f} %",
        "test NLL": f"{judged['test_nll']:.4f}",
        "test ECE": f"{judged['test_ece']:.4f}",
    }


def _cost(trained: Trained, result: Record) -> dict[str, str]:
    flops = result.get("flops") or {}
    held = {}
    if trained.ticket:
        topology = trained.ticket.topology
        share = f"{topology.nnz:,} of {topology.numel:,} ({100 * (1 - topology.density):.2f} % sparse)"
        held = {"weights in sparse layers": share}
    ratios = {
        "inference FLOPs, of dense": flops.get("inference_ratio"),
        "training FLOPs of the run, of dense": flops.get("training_ratio"),
        "exploration rate R_s of the run": result.get("exploration_rate"),
    }
    return held | {name: f"{value:.3f}" for name, value in ratios.items() if value is not None}


def _normalised(trained: Trained) -> str:
    """Pixels u in [0, 1] -> what the network takes; the same for each channel, or a number per channel."""
    pixels = trained.data.pixels
    span = (pixels.high - pixels.low) or 1.0
    mean = [f"{value:.4g}" for value in ((pixels.mean.flatten() - pixels.low) / span).tolist()]
    std = [f"{value:.4g}" for value in (pixels.std.flatten() / span).tolist()]
    return f"(pixel in [0, 1] - mean) / std, with mean {', '.join(mean)} and std {', '.join(std)}"


def _model(trained: Trained) -> str:
    options = "".join(f", {key}={value!r}" for key, value in trained.recipe.model.options.items())
    name = trained.recipe.model.name
    return f"model = regrow.train.models.build({name!r}, {trained.data.shape}, {trained.data.classes}{options}).eval()"


def _table(rows: Mapping[str, str]) -> str:
    """The first row is the head."""
    (first, second), *rest = rows.items()
    return "\n".join([f"| {first} | {second} |", "|---|---|", *(f"| {key} | {value} |" for key, value in rest)])
