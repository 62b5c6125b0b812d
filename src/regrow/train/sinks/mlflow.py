"""MLflow: experiment `regrow`, a run per run; where to is MLflow's own variable (MLFLOW_TRACKING_URI)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regrow.train.paths import RunFolder
from regrow.train.sinks import title


class Mlflow:
    """A row at a time, as each write costs MLflow tens of milliseconds. A resumed run goes on in the same one."""

    def __init__(self, folder: RunFolder, settings: Mapping[str, Any]) -> None:
        import mlflow  # type: ignore[import-not-found, unused-ignore]

        self._mlflow: Any = mlflow
        name = title(folder)
        experiment = mlflow.set_experiment("regrow")
        found = mlflow.search_runs(
            [experiment.experiment_id], f"tags.regrow = '{name}'", max_results=1, output_format="list"
        )
        if found:
            mlflow.start_run(run_id=found[0].info.run_id)
        else:
            mlflow.start_run(run_name=name, tags={"regrow": name})
            mlflow.log_dict(dict(settings), "recipe.json")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self) -> None:
        self._mlflow.end_run()
