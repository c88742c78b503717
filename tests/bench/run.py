"""Measures persistconn beside its peers: `nox -s bench -- --help`."""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import random
import re
import sys
import time
from pathlib import Path

import contenders
import database
import environments
import guard
from fleet import Fleet
from measuring import QUICK, Bench, Plan

CACHE = environments.ROOT / ".nox" / ".cache" / "bench"


def parse():
    parser = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    parser.add_argument(
        "what", nargs="?", choices=["all", "guard"], help="guard: " + guard.__doc__.splitlines()[0]
    )
    parser.add_argument("--update", action="store_true", help="keep what the guard counts as right")
    parser.add_argument("--only", choices=sorted(contenders.GROUPS), default="all")
    parser.add_argument("--rounds", type=int, help=f"{Plan.rounds} if nothing is said")
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run: the figures mean nothing"
    )
    parser.add_argument(
        "--http", action="store_true", help="only the requests over HTTP, as they vary most"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--out", type=Path, default=CACHE / "results")
    parser.add_argument(
        "--report", action="store_true", help="from what is in --out, measure nothing"
    )
    return parser.parse_args()


def measure(options, rounds):
    """Return the data of all environments by name."""
    plan = dataclasses.replace(QUICK if options.quick else Plan(), only_http=options.http)
    names, chance = contenders.GROUPS[options.only], random.Random(options.seed)
    built = environments.build(names, CACHE / "environments")
    package = environments.snapshot(CACHE)
    with contextlib.ExitStack() as stack:
        wanted = {contenders.server(name) for name in names}
        servers = {each: stack.enter_context(database.SERVERS[each]()) for each in wanted}
        fleets = [
            Fleet(built[name], servers[contenders.server(name)], package, chance) for name in names
        ]
        measure_all([Bench(fleet, plan) for fleet in fleets], rounds, chance)
    return {fleet.environment.name: fleet.results.as_data() for fleet in fleets}


def measure_all(benches, rounds, chance):
    begin = time.monotonic()
    steps = [
        (bench, f"round {number + 1} of {rounds}")
        for number in range(rounds)
        for bench in chance.sample(benches, len(benches))
    ]
    for bench, what in steps:
        progress(begin, bench, what)
        bench.round()
    for bench in benches:
        progress(begin, bench, "memory and threads")
        bench.once()
    print(f"{time.monotonic() - begin:6.0f} s  done", flush=True)


def progress(begin, bench, what):
    elapsed = time.monotonic() - begin
    print(f"{elapsed:6.0f} s  {bench.fleet.environment.name}: {what}", flush=True)


def main():
    options = parse()
    if options.what == "guard":
        sys.exit("\n".join(guard.check(CACHE, options.update)) or 0)
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "bench.json"
    if not options.report:
        kept.write_text(json.dumps(run(options), indent=1))
    write(json.loads(kept.read_text()), options.out)


def run(options):
    rounds = options.rounds or (QUICK if options.quick else Plan()).rounds
    command = f"--only {options.only} --rounds {rounds} --seed {options.seed}"
    command += "".join(f" --{name}" for name in ("quick", "http") if getattr(options, name))
    print(f"nox -s bench -- {command}", flush=True)
    facts = {"command": command, "rounds": rounds, "machine": machine()}
    return {**facts, "environments": measure(options, rounds)}


def machine():
    models = re.findall(r"(?m)^model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{len(os.sched_getaffinity(0))} cores of {(models or [platform.machine()])[0]}"


def write(data, folder):
    import plot
    import report

    text = report.whole(data)
    (folder / "bench.md").write_text(text)
    plot.draw(data, folder / "bench.svg")
    print(text, folder / "bench.md", folder / "bench.svg", sep="\n", flush=True)


if __name__ == "__main__":
    main()
