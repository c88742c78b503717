"""The results as Markdown: the goals first, then every figure."""

import goals
from contenders import BARE_POOLS, PERSISTCONN, server
from goals import ratio
from processes import cpu
from results import compare, spread

HEAD = """# persistconn beside its peers

`nox -s bench -- {command}` on {machine}. Everyone does the same work in turns of a fraction of a
second, in {rounds} round(s) with processes of their own, against {servers}.
Each figure is the median of the rounds, with the least and the greatest.
"""
SERVERS = {
    "PostgreSQL": "PostgreSQL over TCP with TLS and SCRAM (PgBouncer pools transactions)",
    "MariaDB": "MariaDB over TCP with TLS and a password",
}
WORKS = {"one": "one row", "ten": "ten queries", "write": "one write"}
IN_PROCESS = {
    **WORKS,
    "one, 1 ms": "one row, 1 ms latency",
    "one, 20 ms": "one row, 20 ms latency",
}
OVER_HTTP = {
    f"{work}, HTTP, {threads}": f"{words}, {threads} thread{'s' * (threads > 1)}"
    for work, words in WORKS.items()
    for threads in (1, 4, 16)
}
HTTP = """Requests per second over HTTP, with as many clients as gunicorn has threads (under
django-db-geventpool, whose locks are gevent's, it has greenlets instead):"""
CPU = {cpu(metric): words for metric, words in OVER_HTTP.items()}
COSTS = {"connection": "started, cursor, finished", "cursor": "one cursor"}
POOLS = {f"pool, {threads}": f"{threads} thread{'s' * (threads > 1)}" for threads in (1, 8, 64)}
MEMORY = {
    "resident": "resident MB",
    "kilobytes": "growth in kB",
    "objects": "objects more",
    "blocks": "blocks more",
    "garbage": "objects in cycles",
    "requests": "requests made",
}


def number(value):
    """The number with three significant digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def span(spread):
    if spread is None:
        return "-"
    return f"{number(spread.median)} ({number(spread.least)}..{number(spread.greatest)})"


def table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def text(data, name):
    """The part of one environment."""
    results = data["environments"][name]
    values, once = results["values"], results["once"]
    sections = [
        ("Requests per second through the WSGI handler, in process:", figures(values, IN_PROCESS)),
        ("How many times as many persistconn makes:", ratios(values, IN_PROCESS)),
        (HTTP, figures(values, OVER_HTTP)),
        ("How many times as many persistconn makes:", ratios(values, OVER_HTTP)),
        ("CPU time of a request over HTTP, in µs of the worker:", figures(values, CPU)),
        ("How many times as much persistconn takes:", ratios(values, CPU)),
        ("What a request's connection costs without a query, in µs:", figures(values, COSTS)),
        ("How many times as much persistconn costs:", ratios(values, COSTS)),
        ("Memory, per 10,000 requests:", memory(once["memory"])),
    ]
    if name in BARE_POOLS:
        pools = figures(values, POOLS)
        sections.append(("Checkout and checkin of the pool alone, in µs:", pools))
    sections += failures(results)
    (versions,) = once["versions"].values() or [name]
    return f"## {versions}\n\n" + "\n".join(f"{title}\n\n{body}" for title, body in sections)


def measured(values, metrics):
    return {metric: words for metric, words in metrics.items() if metric in values}


def names(values, metrics):
    return list(dict.fromkeys(name for metric in metrics for name in values[metric]))


def figures(values, metrics):
    metrics = measured(values, metrics)
    rows = [
        [name, *(span(spread(values[metric], name)) for metric in metrics)]
        for name in names(values, metrics)
    ]
    return table(["", *metrics.values()], rows)


def ratios(values, metrics):
    metrics = measured(values, metrics)
    rows = [
        [name, *(span(compare(values[metric], PERSISTCONN, name, ratio)) for metric in metrics)]
        for name in names(values, metrics)
        if name != PERSISTCONN
    ]
    return table(["against", *metrics.values()], rows)


def memory(measured):
    per_request = ("kilobytes", "objects", "blocks", "garbage")
    factors = {**dict.fromkeys(per_request, 10000), "resident": 1 / 1024, "requests": 1}
    rows = [
        [name, *(number(factors[key] * figure[key]) if key in figure else "-" for key in MEMORY)]
        for name, figure in measured.items()
    ]
    return table(["", *MEMORY.values()], rows)


def failures(results):
    lines = [f"- {name}: {words}" for name, words in results["failures"].items()]
    title = "These failed, and what is missing above is missing for that:"
    return [(title, "\n".join(lines) + "\n")] if lines else []


def goal_rows(environments):
    for goal in goals.ALL:
        for name in goal.environments:
            if name in environments:
                measured = goal.measured(environments[name]["values"])
                reached = measured and goal.is_reached(measured.median)
                what = f"{goal.what}, {name}"
                yield [what, goal.against, goal.words, span(measured), verdict(reached)]
    for name, results in environments.items():
        yield crowd_row(name, next(iter(results["once"]["crowd"].values()), None))


def crowd_row(name, crowd):
    goal = [f"≤ {goals.SESSIONS} sessions, none lost"]
    if crowd is None:
        return [f"threads that share connections, {name}", "", *goal, "-", verdict(None)]
    words = "{sessions} sessions, {lost} lost, {seconds:.1f} s, {0} MB"
    reached = crowd["sessions"] <= goals.SESSIONS and not crowd["lost"]
    what = "{threads} threads make {requests} requests".format(**crowd)
    figure = words.format(crowd["resident"] // 1024, **crowd)
    return [f"{what}, {name}", "", *goal, figure, verdict(reached)]


def verdict(reached):
    return "not measured" if reached is None else "reached" if reached else "**NOT**"


def whole(data):
    environments = data["environments"]
    heads = ["what", "against", "goal", "measured", ""]
    servers = " and ".join(dict.fromkeys(SERVERS[server(name)] for name in environments))
    parts = [HEAD.format(servers=servers, **data), table(heads, goal_rows(environments))]
    return "\n".join(parts + [text(data, name) for name in environments])
