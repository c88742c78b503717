"""Merge the tables of several runs, as `--json` wrote them: `python merge.py RUN.json ...`

There is a line for each fault and a column for each run: the visible errors, the faults injected,
the wrong rows if there are any, and the worst time.
"""

from __future__ import absolute_import, print_function

import json
import sys

PATIENCE = 20


def cell(row):
    if row is None:
        return "-"
    parts = ["%d errors of %d faults" % (row["visible"], row["injected"])]
    parts += [row["note"]] if row["note"] else []
    parts += [
        "**%d %s**" % (row[what], what) for what in ("lost", "doubled", "present") if row[what]
    ]
    hang = "%d hang > %d s" % (row["hanging"], PATIENCE)
    return "; ".join(parts + [hang if row["hanging"] else "worst " + duration(row["worst"])])


def duration(seconds):
    return "%.1f s" % seconds if seconds >= 1 else "%.0f ms" % (1000 * seconds)


def merged(runs):
    """The lines of a Markdown table."""
    by_fault = [dict((row["fault"], row) for row in run["rows"]) for run in runs]
    faults = []
    for run in runs:
        faults += [row["fault"] for row in run["rows"] if row["fault"] not in faults]
    yield "| fault | " + " | ".join(title(run) for run in runs) + " |"
    yield "|---" * (len(runs) + 1) + "|"
    for fault in faults:
        yield "| %s | %s |" % (fault, " | ".join(cell(rows.get(fault)) for rows in by_fault))


def title(run):
    return "%s (%s)" % (run["contender"], run["versions"])


def main(paths):
    runs = []
    for path in paths:
        with open(path) as results:
            runs.append(json.load(results))
    print("\n".join(merged(runs)))


if __name__ == "__main__":
    main(sys.argv[1:])
