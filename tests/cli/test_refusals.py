"""Bad input: one paragraph with the way out, exit code 2, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.conftest import Call

DIGITS = "smoke/digits"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "smoke/digit"], ["no such recipe", "did you mean 'smoke/digits'?"]),
        (["run", DIGITS, "--set", "epoch=3"], ["unknown key `epoch` (value 3)", "did you mean 'epochs'?"]),
        (["run", DIGITS, "--set", "epochs=three"], ["`epochs` is 'three'", "valid integer", "passes over"]),
        (["run", DIGITS, "--set", "epochs"], ["KEY=VALUE"]),
        (["run", DIGITS, "--seeds", "one"], ["--seeds one", "0,1,2"]),
        (["run", DIGITS, "--set", "density=1.5"], ["`density` is 1.5", "less than or equal to 1", "in (0, 1]"]),
        (["run", DIGITS, "--set", "density=1e-5"], ["leaves layer", "raise the density"]),
        (["run", DIGITS, "--set", "method.name=rigel"], ["unknown method 'rigel'", "did you mean 'rigl'?"]),
        (["run", DIGITS, "--set", "method.growth=gradient"], ["no hyper-parameter 'growth'", "did you mean 'grow'?"]),
        (["run", DIGITS, "--set", "method.grow=gradients"], ["'gradients'", "did you mean 'gradient'?"]),
        (["run", DIGITS, "--set", "method.fraction=half"], ["method.fraction is 'half'", "Cosine"]),
        (["run", DIGITS, "--set", "method.rounding=up"], ["unknown rounding rule 'up'", "ceil, floor"]),
        (["run", DIGITS, "--set", "method.name=static"], ["'static' never updates", "drop `every`"]),
        (["run", DIGITS, "--set", "method.every.interval=1000"], ["no update would ever happen", "every="]),
        (["run", DIGITS, "--set", "model=mpl"], ["unknown model 'mpl'", "did you mean 'mlp'?"]),
        (["run", DIGITS, "--set", "model.hiden=[8]"], ["no option 'hiden'", "did you mean 'hidden'?"]),
        (["run", DIGITS, "--set", "data=digit"], ["unknown data set 'digit'", "did you mean 'digits'?"]),
        (["run", DIGITS, "--set", "data=absent.npz"], ["absent.npz", "digits"]),
        (["run", DIGITS, "--set", "data=folder:absent"], ["absent", "digits"]),
        (["run", DIGITS, "--set", "exclude=['*']"], ["no sparse site", "excluded by name"]),
        (["run", DIGITS, "--set", "batch_size=9999"], ["batch size 9999", "training samples"]),
        (["run", DIGITS, "--set", "optimizer.lr=1e30"], ["the loss is", "Lower the learning rate"]),
        (["show", "nothing"], ["nothing: no such recipe"]),
        (["show", "."], ["holds no run", "seed_0"]),
        (["compare", "."], ["holds no run"]),
        (["resume", "absent"], ["absent holds no run"]),
    ],
)
def test_bad_input_is_one_paragraph(call: Call, words: list[str], said: list[str]) -> None:
    refusal = call(*words)
    assert refusal.exit_code == 2, refusal.output
    assert refusal.stdout == ""
    assert refusal.stderr.startswith("regrow: ")
    assert refusal.stderr.count("\n") == 1, "one paragraph"
    for word in said:
        assert word in refusal.stderr


def test_a_refused_recipe_leaves_nothing_behind(call: Call, tmp_path: Path) -> None:
    assert call("run", DIGITS, "--set", "density=1e-5").exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(call: Call) -> None:
    refusal = call("run", DIGITS, "--set", "epoch=3", "--debug")
    assert refusal.exit_code == 1
    assert "unknown key `epoch`" in str(refusal.exception)


def test_missing_data_names_the_files(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **keywords: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr("regrow.train.data.fetch.urlopen", unreachable)
    refusal = call("run", DIGITS, "--set", "data=cifar10", "--data-root", tmp_path)
    assert refusal.exit_code == 2
    for word in ("cifar-10", "is missing", "Put the official files in", "REGROW_DATA"):
        assert word in refusal.stderr


def test_a_corrupted_checkpoint_is_refused(call: Call, tmp_path: Path) -> None:
    assert call("run", DIGITS).exit_code == 0
    (checkpoint,) = tmp_path.rglob("checkpoint.pt")
    (checkpoint.parent / "result.json").unlink()
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 0xFF
    checkpoint.write_bytes(content)
    for verb in ("resume", "show"):
        refusal = call(verb, checkpoint.parent)
        assert refusal.exit_code == 2, refusal.output
        assert refusal.stderr.count("\n") == 1
        for word in (str(checkpoint.name), "Put a good copy back", "delete the file"):
            assert word in refusal.stderr


def test_a_changed_recipe_in_a_run_folder_is_refused(call: Call, tmp_path: Path) -> None:
    assert call("run", "smoke/dense").exit_code == 0
    (stored,) = tmp_path.rglob("recipe.yaml")
    stored.write_text(stored.read_text().replace("batch_size: 64", "batch_size: 32"), encoding="utf-8")
    refusal = call("run", "smoke/dense")
    assert refusal.exit_code == 2
    assert "it was changed" in refusal.stderr


def test_a_path_that_cannot_be_written_and_a_file_that_is_no_text(call: Call, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, no folder")
    refusal = call("run", DIGITS, "--runs", "taken")
    assert refusal.exit_code == 2
    assert "taken" in refusal.stderr
    assert "Check the path" in refusal.stderr
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    refusal = call("run", "binary.yaml")
    assert refusal.exit_code == 2
    assert "binary.yaml: not a recipe" in refusal.stderr
