"""Tidy tables of what a bench chose and what it cost."""

import polars as pl

from cislens.evaluation.results import Key, ResultStore


def layer_scores(store: ResultStore) -> pl.DataFrame:
    """Validation score of every layer and pooling that was tried, one row each.

    Columns: task, metric, arm, view, layer, pooling, valid_score, chosen. Only arms that had a
    choice are in it; test examples play no part.
    """
    rows = []
    for record in store.records().filter(pl.col("seed") == 0).iter_rows(named=True):
        config = store.config(Key(record["task"], record["arm"], 0))
        tried = config.get("views")
        if not isinstance(tried, dict):
            continue
        for view, score in tried.items():
            layer, _, pooling = view.rpartition(".")
            rows.append(
                {
                    "task": record["task"], "metric": record["valid_metric"],
                    "arm": record["arm"], "view": view, "layer": layer, "pooling": pooling,
                    "valid_score": score, "chosen": view == config["view"],
                }
            )  # fmt: skip
    schema = {
        "task": pl.String, "metric": pl.String, "arm": pl.String, "view": pl.String,
        "layer": pl.String, "pooling": pl.String, "valid_score": pl.Float64, "chosen": pl.Boolean,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema)


def costs(store: ResultStore) -> pl.DataFrame:
    """What each arm cost on each task, one row per stage, all seeds together.

    Columns: task, arm, stage (embed, tune, train, predict), wall_s, bp, bp_per_s, parameters,
    flops, trials, steps.
    """
    ledger = store.ledger()
    return (
        ledger.group_by("task", "arm", "stage", maintain_order=True)
        .agg(
            pl.col("wall_s", "bp", "flops", "trials", "steps").sum(),
            pl.col("parameters").max(),
        )
        .with_columns(bp_per_s=pl.col("bp") / pl.col("wall_s").clip(1e-9))
    )
