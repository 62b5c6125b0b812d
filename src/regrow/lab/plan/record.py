"""An outlook for programs: numbers, words, lists and tables of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from regrow.lab.plan.outlook import Outlook
from regrow.lab.plan.propose import Proposal
from regrow.train.record import Record


def record(found: Outlook, proposals: Sequence[Proposal]) -> Record:
    """Plain JSON; bytes, seconds, FLOPs."""
    draft = found.draft
    plain = ("layers", "explored", "costs", "tickets", "calibration")
    values = {name: getattr(found, name) for name in plain}
    tables = {
        name: [asdict(row) for row in value] if isinstance(value, list) else value and asdict(value)
        for name, value in values.items()
    }
    return {
        "recipe": draft.recipe.name,
        "folder": draft.recipe.folder,
        "seeds": list(draft.recipe.seeds),
        "samples": draft.sizes.train,
        "epochs": draft.recipe.total_epochs,
        "steps": draft.steps,
        "updates": draft.ledger.updates,
        "parameters": draft.net.parameters,
        **tables,
        "flops": found.flops,
        "flops_low": found.flops_low,
        "flops_high": found.flops_high,
        "flops_unsure": found.unsure,
        "flops_rest_on": [asdict(run) for run in found.rests_on],
        "notes": found.notes,
        "proposals": [asdict(proposal) for proposal in proposals],
    }
