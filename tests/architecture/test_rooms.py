"""Which room may import which, of ours and of others': the table of the design, kept by the syntax trees."""

from __future__ import annotations

import pytest
from source import imports, room_of, trees

TORCH_ROOMS = {"core", "methods", "execution", "tweaks", "metrics", "sparsifier", "tickets", "train", "recipe", "lab"}
TORCH_ROOMS |= {"integrations"}

OURS = {
    "core": set(),
    "methods": {"core"},
    "execution": {"core"},
    "tweaks": {"core"},
    "metrics": {"core"},
    "sparsifier": {"core", "methods", "execution", "tweaks"},
    "tickets": {"core", "execution", "sparsifier"},
    "train": {"core", "sparsifier", "tickets", "metrics"},
    "recipe": {"core", "methods", "execution", "tweaks", "metrics", "sparsifier", "tickets", "train"},
    "lab": {"core", "methods", "execution", "tweaks", "metrics", "sparsifier", "tickets", "train", "recipe"},
    "report": {"train"},
    "integrations": {"core", "sparsifier"},
    "cli": {"core", "recipe", "lab", "report", "train"},
}

FOREIGN = {
    "tickets": {"numpy", "safetensors"},
    "train": {"lightning_fabric", "numpy", "PIL", "rich"},
    "recipe": {"pydantic", "pydantic_core", "yaml"},
    "report": {"jinja2", "yaml"},
    "cli": {"typer", "rich"},
}

LAZY = {
    "metrics": {"torchmetrics", "sklearn", "scipy"},
    "train": {"timm", "sklearn", "scipy", "tensorboard", "wandb", "mlflow", "trackio"},
    "lab": {"safetensors", "onnxruntime", "onnxscript", "optuna", "ray", "submitit"},
}


def test_every_room_is_in_the_table_and_has_an_inhabitant() -> None:
    rooms = {room_of(file) for file in trees()} - {"__init__", "__main__"}
    assert rooms == OURS.keys()
    for room in rooms:
        assert any(len(tree.body) > 1 for file, tree in trees().items() if room_of(file) == room), f"{room} is empty"


@pytest.mark.parametrize("room", OURS)
def test_a_room_imports_only_the_rooms_it_may(room: str) -> None:
    allowed = {room} | OURS[room]
    wrong = [str(f) for f in imports() if room_of(f.file) == room and f.ours and f.room not in allowed]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", sorted(OURS.keys() - {"integrations"}))
def test_a_room_imports_only_the_libraries_it_may(room: str) -> None:
    always = FOREIGN.get(room, set()) | ({"torch"} if room in TORCH_ROOMS else set())
    lazily = always | LAZY.get(room, set())
    wrong = [
        str(found)
        for found in imports()
        if room_of(found.file) == room and found.foreign and not found.typing
        if found.room not in (lazily if found.lazy else always)
    ]
    assert not wrong, "\n".join(wrong)


def test_an_adapter_imports_the_library_it_is_named_after() -> None:
    wrong = [
        str(found)
        for found in imports()
        if room_of(found.file) == "integrations" and found.foreign
        if found.room not in ("torch", found.file.split("/")[1].removesuffix(".py"))
    ]
    assert not wrong, "\n".join(wrong)


def test_reports_read_folders_only() -> None:
    allowed = ("regrow.report", "regrow.train.paths", "regrow.train.record")
    wrong = [str(f) for f in imports() if room_of(f.file) == "report" and f.ours and not f.name.startswith(allowed)]
    assert not wrong, "\n".join(wrong)


def test_a_method_never_learns_how_it_is_executed() -> None:
    """A saliency alone looks at a model: it scores a plain one, before there is anything to execute."""
    wrong = [
        str(f)
        for f in imports()
        if room_of(f.file) in ("core", "methods") and "nn" in f.name.split(".") and f.file != "core/saliency.py"
    ]
    assert not wrong, "\n".join(wrong)
