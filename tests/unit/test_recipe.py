"""The recipe: strict, one resolved form, hashes that stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from regrow.core.errors import RegrowError
from regrow.recipe.load import dump, load, override, parse, recipe_of
from regrow.recipe.schema import Recipe

SMALL: dict[str, Any] = {
    "name": "small",
    "data": "digits",
    "model": "mlp",
    "optimizer": "sgd",
    "epochs": 2,
    "batch_size": 8,
}


def small(**changes: Any) -> Recipe:
    return recipe_of(SMALL | changes, "small.yaml")


@pytest.mark.parametrize(
    ("changes", "hash8"),
    [
        ({}, "e7f9ff3f"),
        ({"method": "rigl-itop", "density": 0.05}, "98721223"),
        (
            {
                "method": {"name": "set", "fraction": 0.5, "every": {"interval": 10}},
                "sparsity": 0.9,
                "schedule": {"name": "milestones", "at": [1, 0.75]},
                "optimizer": {"name": "adamw", "lr": 0.01},
                "multiplier": 2,
            },
            "d5225d49",
        ),
    ],
)
def test_hashes_are_literal(changes: dict[str, Any], hash8: str) -> None:
    """A new field with a default must rename nothing: if this fails, runs that people have are orphaned."""
    assert small(**changes).hash8 == hash8


def test_the_hash_sees_what_decides_a_run_and_nothing_else() -> None:
    plain = small()
    assert small(seeds=[3, 4], about="words", name="other").hash8 == plain.hash8
    assert small(label_smoothing=0.0, optimizer={"name": "sgd", "lr": 0.1}, version=1).hash8 == plain.hash8
    assert small(method="set", density=0.1).hash8 == small(method={"name": "set"}, sparsity=0.9).hash8
    changes = [
        {"epochs": 3},
        {"label_smoothing": 0.1},
        {"optimizer": "adam"},
        {"data": {"name": "digits", "augment": False}},
    ]
    assert len({plain.hash8, *(small(**change).hash8 for change in changes)}) == 5


def test_the_backend_is_part_of_a_run_and_masked_is_the_default() -> None:
    method = {"method": "set", "density": 0.1}
    assert small(**method, backend="masked").hash8 == small(**method).hash8
    assert small(**method, backend="sparse").hash8 != small(**method).hash8
    with pytest.raises(RegrowError, match="`backend: sparse` but no `method`"):
        small(backend="sparse")


def test_the_resolved_form_reads_back(tmp_path: Path) -> None:
    recipe = small(method={"name": "set", "grow": "gradient"}, sparsity=0.95, schedule="cosine", overrides={"fc*": 0.5})
    assert recipe.density == 0.05
    path = tmp_path / "recipe.yaml"
    path.write_text(dump(recipe), encoding="utf-8")
    assert load(path) == recipe
    assert load(path).hash8 == recipe.hash8


def test_settings_are_yaml_and_open_short_blocks(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(dump(small(method="rigl", density=0.1)), encoding="utf-8")
    recipe = load(path, ["optimizer.lr=5e-4", "method.every.interval=7", "sparsity=0.75", "model.hidden=[4, 4]"])
    assert recipe.optimizer.lr == 5e-4
    assert recipe.method is not None
    assert recipe.method.every is not None
    assert recipe.method.every.interval == 7
    assert recipe.density == 0.25
    assert recipe.model.options == {"hidden": [4, 4]}
    assert override({"optimizer": "adam"}, "optimizer.lr=1") == {"optimizer": {"name": "adam", "lr": 1}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epoch": 3}, ["unknown key `epoch`", "3", "did you mean 'epochs'?", "Valid here: version, name"]),
        ({"epochs": "3"}, ["`epochs` is '3'", "valid integer", "passes over the training set"]),
        ({"epochs": 2.5}, ["`epochs` is 2.5"]),
        ({"optimizer": {"name": "sgd", "lrr": 1}}, ["unknown key `optimizer.lrr`", "did you mean 'lr'?"]),
        ({"optimizer": {"name": "sgd", "lr": True}}, ["`optimizer.lr` is True", "valid number"]),
        ({"optimizer": "sgdd"}, ["`optimizer.name` is 'sgdd'; did you mean 'sgd'?", "adamw"]),
        ({"optimizer": {"lr": 1}}, ["`optimizer` is {'lr': 1}", "a block with a name"]),
        ({"data": 3}, ["`data` is 3", "a block with a name"]),
        ({"schedule": "milestones"}, ["`schedule.at` is missing", "where the learning rate drops"]),
        ({"schedule": {"name": "cosine", "warmup": 1.5}}, ["`schedule.warmup` is 1.5", "fraction of the run"]),
        ({"schedule": {"name": "cosine", "warmup": -1}}, ["`schedule.warmup` is -1"]),
        ({"density": 0, "method": "set"}, ["`density` is 0", "greater than 0"]),
        ({"density": 1.5, "method": "set"}, ["`density` is 1.5", "less than or equal to 1"]),
        ({"sparsity": 1.2, "method": "set"}, ["`sparsity` is 1.2", "[0, 1)"]),
        ({"sparsity": 0.9, "density": 0.1, "method": "set"}, ["both `density` and `sparsity`"]),
        ({"density": 0.1}, ["`density` but no `method`", "rigl-itop"]),
        ({"method": "set"}, ["no `density`", "`density: 0.1`"]),
        ({"method": {"name": "set", "every": {"intervall": 1}}, "density": 0.1}, ["did you mean 'interval'?"]),
        ({"overrides": {"fc1": 2}}, ["`overrides.fc1` is 2"]),
        ({"seeds": []}, ["`seeds` is []", "one run per seed"]),
        ({"name": "A b"}, ["`name` is 'A b'", "lower-case"]),
        ({"version": 2}, ["`version` is 2"]),
    ],
)
def test_a_faulty_recipe_is_refused_in_one_paragraph(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(RegrowError) as refusal:
        small(**changes)
    message = str(refusal.value)
    assert message.startswith("small.yaml: ")
    assert "\n" not in message
    assert "pydantic" not in message
    for word in words:
        assert word in message


def test_what_is_missing_is_named() -> None:
    with pytest.raises(RegrowError, match=r"`batch_size` is missing \(samples per optimizer step"):
        recipe_of({key: value for key, value in SMALL.items() if key != "batch_size"}, "r.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2", "r.yaml, line 2: .* 'a' is given twice"),
        ("a: {b: 1, b: 2}", "'b' is given twice"),
        ("a: [1", "r.yaml, line"),
        ("a: !!python/object/apply:os.getcwd []", "r.yaml, line 1"),
    ],
)
def test_faulty_yaml_is_refused(text: str, words: str) -> None:
    with pytest.raises(RegrowError, match=words):
        parse(text, "r.yaml")


def test_numbers_with_an_exponent_are_numbers() -> None:
    assert parse("[5e-4, 1e3, 1.5E-2, 3]", "r") == [5e-4, 1e3, 1.5e-2, 3]


@pytest.mark.parametrize(
    ("setting", "words"),
    [("epochs", "KEY=VALUE"), ("a..b=1", "KEY=VALUE"), ("epochs.x=1", "'epochs' holds 2 and has no keys")],
)
def test_faulty_settings_are_refused(setting: str, words: str) -> None:
    with pytest.raises(RegrowError, match=words):
        override(SMALL, setting)


def test_an_unknown_recipe_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RegrowError, match=r"demo/rigl-itopp: no such recipe; did you mean 'demo/rigl-itop'\?"):
        load("demo/rigl-itopp")
    (tmp_path / "list.yaml").write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(RegrowError, match="holds list"):
        load(tmp_path / "list.yaml")
