"""regrow plan: what a run would be, before it is begun; and what to set so that it reaches or costs what you say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.tables import Rows, print_table
from regrow.core.errors import RegrowError

if TYPE_CHECKING:
    from regrow.lab.plan.foreseen import Foreseen, Measured
    from regrow.lab.plan.outlook import Cost, Outlook
    from regrow.lab.plan.propose import Proposal
    from regrow.lab.plan.pruned import Pruned

MOMENTS = {"start": 0.0, "1/4": 0.25, "1/2": 0.5, "3/4": 0.75, "end": 1.0}
SIZES = ("peak MB", "weights, optimizer", "positions", "activations", "checkpoint MB", "ticket MB")
WORDS = {
    "exact": "exact",
    "closed form": "what is to be expected",
    "estimate": "an estimate",
    "bounds": "within bounds",
}


def plan(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A .yaml file, or a shipped one: demo/rigl-itop.")],
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value.")] = None,
    target_rs: Annotated[float | None, typer.Option(metavar="R", help="What to set to explore so much: 0.9.")] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="0.6x-dense", help="What to set for these training FLOPs at most.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(metavar="M", help="What to set to train so long here.")] = None,
    uncalibrated: Annotated[
        bool, typer.Option("--no-calibration", help="Without seconds: take no steps on this machine.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print numbers for programs.")] = False,
) -> None:
    """Layers, R_s, FLOPs, memory, files, seconds and tickets of a run, before a second of training."""
    from regrow.lab.plan.draft import Draft
    from regrow.lab.plan.outlook import outlook
    from regrow.lab.plan.propose import Goals, propose
    from regrow.lab.plan.record import record
    from regrow.recipe.load import load

    goals = Goals(target_rs, budget_of(budget), minutes)
    found = outlook(Draft.of(load(recipe, settings or ())), not uncalibrated)
    proposals = propose(found, goals) if goals.given else []
    if as_json:
        typer.echo(json.dumps(record(found, proposals), indent=2))
        return
    show(found)
    if proposals:
        print_table([_proposal(proposal) for proposal in proposals], left=["to change", "set"])


def budget_of(text: str | None) -> float | None:
    """`0.6x-dense` as a number."""
    if text is None:
        return None
    try:
        return float(text.removesuffix("-dense").removesuffix("x"))
    except ValueError:
        raise RegrowError(f"--budget {text}: should be a share of dense training, such as 0.6x-dense") from None


def show(found: Outlook) -> None:
    """All of it, in tables."""
    draft = found.draft
    recipe, net = draft.recipe, draft.net
    moves = f"; {draft.ledger.updates:,} topology updates" if draft.ledger.updates else ""
    typer.echo(f"{recipe.name}: {recipe.about}" if recipe.about else recipe.name)
    samples = f"{draft.sizes.train:,} samples of {'x'.join(map(str, draft.sizes.shape))}"
    typer.echo(f"{samples}, batch {recipe.batch_size}: {draft.steps:,} steps in {recipe.total_epochs} epochs{moves}")
    held = sum(layer.nnz for layer in found.layers if layer.name in net.parts)
    sparse = f", {held:,} of {net.numel:,} in {len(net.parts)} sparse layers exist at first" if net.parts else ""
    typer.echo(f"{net.parameters:,} parameters{sparse}")
    print_table(_layers(found), left=["layer"])
    if net.parts:
        print_table([_course(found.explored, draft.steps)], left=["R_s"])
        typer.echo(f"R_s is {WORDS[found.explored.kind]}: {found.explored.why}.")
        for run in found.explored.runs:
            typer.echo(f"  {_rests_on(run)}")
    print_table(_flops(found), left=["FLOPs"])
    if found.unsure:
        typer.echo(f"FLOPs are an estimate: {found.unsure}{_strange(found)}.")
        for pruned in found.rests_on:
            typer.echo(f"  {_pruned(pruned)}")
    print_table([_cost(cost) for cost in found.costs], left=["run"])
    for note in _about_costs(found):
        typer.echo(note)
    if found.tickets:
        print_table(_tickets(found))


def _layers(found: Outlook) -> Rows:
    whole = sum(layer.flops for layer in found.layers)
    return [
        {
            "layer": layer.name,
            "shape": "x".join(map(str, layer.shape)),
            "weights": f"{layer.nnz:,}",
            "density": f"{layer.nnz / layer.numel:.4f}" if layer.name in found.draft.net.parts else "dense",
            "R_s at the end": _range(layer.low, layer.high) if layer.name in found.draft.net.parts else "-",
            "FLOPs %": f"{100 * layer.flops / whole:.1f}",
        }
        for layer in found.layers
    ]


def _course(explored: Foreseen, steps: int) -> dict[str, str]:
    at = {
        word: max(i for i, step in enumerate(explored.steps) if step <= share * steps)
        for word, share in MOMENTS.items()
    }
    moments = {word: _range(explored.low[i], explored.high[i]) for word, i in at.items()}
    return {"R_s": "over the run", **moments}


def _rests_on(run: Measured) -> str:
    setting = f"{run.method} at {1 - run.density:.0%}, {run.network} on {run.data}, {run.updates} updates"
    source = f"{run.source}, seeds: {run.seeds}" if run.seeds else run.source
    return f"rests on {setting}: R_s {run.exploration_rate:.3f} ({source})"


def _strange(found: Outlook) -> str:
    """Where they are not runs on the same data."""
    from regrow.lab.plan.sizes import word_of

    data = word_of(found.draft.recipe.data.name)
    known = {run.data for run in found.rests_on}
    return ", as in runs of other networks on other data" if known and data not in known else ""


def _pruned(run: Pruned) -> str:
    setting = f"{run.method} to {1 - run.density:.0%}, {run.network} on {run.data}"
    return f"rests on {setting}: inference {run.inference_ratio:.3f}x ({run.source})"


def _flops(found: Outlook) -> Rows:
    tickets, seeds = len(found.tickets), len(found.draft.recipe.seeds)
    rows = [_row(found, "training", "training"), _row(found, "inference, a sample", "inference")]
    if tickets > 1:
        rows.append(_row(found, f"  of {tickets} tickets together", "inference", tickets))
    if seeds > 1:
        rows.insert(1, _row(found, f"  of {seeds} seeds", "training", seeds))
    return rows


def _row(found: Outlook, title: str, key: str, times: int = 1) -> dict[str, str]:
    low, high = (times * flops[key] for flops in (found.flops_low, found.flops_high))
    dense = found.flops[f"{key}_dense"]
    run = f"{low:.4g}" if f"{low:.4g}" == f"{high:.4g}" else f"{low:.4g}-{high:.4g}"
    return {"FLOPs": title, "run": run, "dense": f"{dense:.4g}", "ratio": f"{_range(low / dense, high / dense)}x"}


def _cost(cost: Cost) -> dict[str, str]:
    held, speed = cost.held, cost.speed
    sizes: dict[str, int | None] = dict.fromkeys(SIZES)
    if held:
        memory = held.peak, held.state + held.gradients, held.besides, held.activations
        sizes = dict(zip(SIZES, (*memory, held.checkpoint, held.ticket), strict=True))
    return {
        "run": cost.backend,
        **{title: "-" if size is None else megabytes(size) for title, size in sizes.items()},
        "ms/step": f"{1e3 * speed.step:.3g}" if speed else "-",
        "ms/update": f"{1e3 * speed.update:.3g}" if speed else "-",
        "training": duration(cost.training),
        "evaluation": duration(cost.evaluation),
    }


def _about_costs(found: Outlook) -> list[str]:
    lines = [f"{cost.backend}: {cost.refused}" for cost in found.costs if cost.refused]
    lines.append("Memory is what the process grows by, computed from shapes.")
    if found.calibration:
        where = found.calibration.where
        lines.append(f"Seconds of one seed from random inputs: {where['cpu']}, {where['threads']} threads.")
        lines += [found.calibration.busy] if found.calibration.busy else []
    return lines + [f"Note: {note}." for note in found.notes]


def _tickets(found: Outlook) -> Rows:
    held = found.own.held
    return [
        {
            "ticket": str(due.number),
            "after epoch": str(due.epoch),
            "FLOPs of it": f"{due.share:.3f}x",
            "seconds of it": duration(due.seconds),
            "MB": f"{held.ticket / 1e6:,.3g}" if held else "-",
        }
        for due in found.tickets
    ]


def _proposal(proposal: Proposal) -> dict[str, str]:
    found = proposal.found
    return {
        "to change": proposal.knob,
        "set": " ".join(f"--set {setting}" for setting in proposal.settings) or f"({proposal.why})",
        "R_s": _range(found.low, found.high) if found else "-",
        "training FLOPs": f"{found.ratio:.3f}x" if found else "-",
        "training": duration(found.minutes and 60 * found.minutes) if found else "-",
    }


def _range(low: float, high: float) -> str:
    return f"{low:.3f}" if f"{low:.3f}" == f"{high:.3f}" else f"{low:.3f}-{high:.3f}"


def megabytes(size: int) -> str:
    """Three digits, or all before the point."""
    return f"{size / 1e6:,.3g}" if size < 1e9 else f"{size / 1e6:,.0f}"


def duration(seconds: float | None) -> str:
    """In the unit that suits it."""
    if seconds is None:
        return "-"
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
