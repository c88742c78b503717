"""The results as a picture."""

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt  # noqa: E402
from contenders import PERSISTCONN  # noqa: E402
from results import spread  # noqa: E402

PANELS = {
    "one": "one-query requests per second",
    "connection": "connection cost of a request, µs",
}
OURS, THEIRS = "#0b6e4f", "#9aa5b1"


def draw(data, path):
    # Keep text as text, and make the same figures give the same file.
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "persistconn", "font.size": 9})
    environments = data["environments"]
    rows = [len(results["values"]["one"]) for results in environments.values()]
    figure, axes = plt.subplots(
        len(rows),
        len(PANELS),
        squeeze=False,
        figsize=(11, 0.6 * len(rows) + 0.28 * sum(rows)),
        gridspec_kw={"height_ratios": rows},
        layout="constrained",
    )
    for line, (name, results) in zip(axes, environments.items()):
        for panel, (metric, title) in zip(line, PANELS.items()):
            bars(panel, results["values"][metric], log=metric == "connection")
            panel.set_title(f"{name}: {title}", fontsize=9, loc="left")
        line[-1].tick_params(labelleft=False)
    figure.savefig(path, metadata={"Date": None})


def bars(panel, values, log):
    spreads = {name: spread(values, name) for name in values}
    # A contender that failed is named, with no bar.
    medians = [each.median if each else 0 for each in spreads.values()]
    errors = [
        [each.median - each.least if each else 0 for each in spreads.values()],
        [each.greatest - each.median if each else 0 for each in spreads.values()],
    ]
    colours = [OURS if name.startswith(PERSISTCONN) else THEIRS for name in spreads]
    panel.barh(list(spreads), medians, xerr=errors, color=colours, error_kw={"linewidth": 0.8})
    panel.invert_yaxis()
    panel.spines[["top", "right"]].set_visible(False)
    if log:
        panel.set_xscale("log")
        panel.set_xlim(left=1)
    for position, each in enumerate(spreads.values()):
        text = f"{each.median:,.0f}" if each else "failed"
        panel.annotate(
            text,
            (each.greatest if each else 1, position),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    panel.margins(x=0.15)
