"""The page of a sweep: Optuna's own plots, and every trial in a table."""

from __future__ import annotations

import html as escape
from string import Template
from typing import Any

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; }
figure { background: #fff; margin: 0 0 2rem; overflow-x: auto; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { border-bottom: 1px solid #8888; padding: .2rem .7rem; text-align: left; white-space: nowrap; }
</style></head><body><h1>$title</h1>$body</body></html>
""")
# Optuna's plots, and what each shows in words.
_PLOTS = {
    "optimization_history": "Value of each trial, and the best so far",
    "intermediate_values": "Learning curve of each trial; those that end early were pruned",
    "param_importances": "How much of the differences each option accounts for",
    "slice": "Value against each option",
    "parallel_coordinate": "All options of each trial",
}


def html(study: Any, name: str, metric: str) -> str:
    """Make a page that needs no network.

    Args:
        study: Optuna's study.
        name: The sweep's name.
        metric: What was searched for.
    """
    import optuna

    body, script = [_table(study, metric)], True
    for kind, what in _PLOTS.items():
        plot = getattr(optuna.visualization, f"plot_{kind}")
        # Optuna's default for importances needs scikit-learn
        extra: dict[str, Any] = (
            {"evaluator": optuna.importance.PedAnovaImportanceEvaluator()} if kind == "param_importances" else {}
        )
        if kind != "intermediate_values":
            extra["target_name"] = metric
        try:
            figure = plot(study, **extra)
        except (ValueError, RuntimeError):  # there is too little to show, such as a single trial
            continue
        figure.update_layout(title=None, margin={"t": 30}, legend={"orientation": "h", "y": -0.2})
        drawn = figure.to_html(full_html=False, include_plotlyjs=script, config={"displaylogo": False})
        body.append(
            f'<h2>{what}</h2><figure role="img" aria-label="{what}; the values are in the table">{drawn}</figure>'
        )
        script = False  # the script is in the page once
    return _PAGE.substitute(title=escape.escape(f"Sweep {name}: {metric}"), body="\n".join(body))


def _table(study: Any, metric: str) -> str:
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.params]
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    rows = [["trial", "state", metric, *names]]
    for trial in trials:
        values = [trial.value, *(trial.params.get(name) for name in names)]
        shown = ["" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in values]
        rows.append([str(trial.number), trial.state.name.lower(), *shown])
    head, *rest = [
        "".join(f"<{tag}>{escape.escape(cell)}</{tag}>" for cell in row)
        for row, tag in zip(rows, ["th", *["td"] * len(trials)], strict=True)
    ]
    return f'<div class="table"><table><tr>{head}</tr>{"".join(f"<tr>{row}</tr>" for row in rest)}</table></div>'
