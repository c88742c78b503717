"""fail when the connection cost of a request has grown.

Valgrind counts the instructions of some requests, which do not depend on what else the machine
does. The ratio of persistconn's instructions to those of the hand patch is kept in guard.json;
`guard --update` renews it.
"""

import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import contenders
import environments
from database import PostgreSQL
from fleet import address
from processes import Failed, environment

REFERENCE = Path(__file__).with_name("guard.json")
ALLOWED = 1.15
CYCLES = 500

ENVIRONMENTS = (contenders.PSYCOPG3, contenders.OLD)
OURS, THEIRS = contenders.PERSISTCONN, contenders.HAND
VALGRIND = ["valgrind", "--tool=callgrind", "--dump-before=getpgid", "--callgrind-out-file=counts"]


def count(python, contender, where, folder):
    """The instructions of one connection cycle."""
    env = {**environment(contender, *where), "PYTHONHASHSEED": "0"}
    command = [*VALGRIND, python, "-m", "measured.instructions", str(CYCLES)]
    run = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)
    # The first dump has what came before the first mark, the second what came between the two.
    counts = folder / "counts.2"
    if run.returncode or not counts.exists():
        raise Failed(run.stderr)
    return int(re.search(r"(?m)^totals: (\d+)", counts.read_text()).group(1)) / CYCLES


def measure(built, folder):
    """The instructions by environment and contender."""
    package, jobs = environments.snapshot(folder), {}
    with PostgreSQL() as server, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as executor:
        for name, one in built.items():
            where = plain(address(name, server, server.at(0))), package
            for row in contenders.of(name):
                if row.name in (OURS, THEIRS):
                    own = Path(tempfile.mkdtemp(dir=folder))
                    jobs[name, row.name] = executor.submit(count, one.python, row, where, own)
        return {key: job.result() for key, job in jobs.items()}


def plain(address):
    """The address without TLS and SCRAM, which take Valgrind seconds, and which no cycle needs."""
    return {**address, "USER": "postgres", "OPTIONS": {}}


def check(folder, update):
    """Return the complaints, or with ``update`` keep the new ratios."""
    if not shutil.which("valgrind"):
        return ["the guard counts with valgrind, which is not installed"]
    built = environments.build(ENVIRONMENTS, folder / "guard", with_peers=False)
    with tempfile.TemporaryDirectory() as scratch:
        counts = measure(built, Path(scratch))
    kept = json.loads(REFERENCE.read_text()) if REFERENCE.exists() else {}
    complaints = [compare(name, counts, kept) for name in ENVIRONMENTS]
    if update:
        REFERENCE.write_text(json.dumps(kept, indent=1) + "\n")
        return []
    return list(filter(None, complaints))


def compare(name, counts, kept):
    """Return the complaint, if there is one, and replace the kept ratio by the new one."""
    ours, theirs = counts[name, OURS], counts[name, THEIRS]
    ratio, reference = ours / theirs, kept.get(name, 0)
    kept[name] = round(ratio, 3)
    print(
        f"{name}: {ours:,.0f} instructions, the hand patch {theirs:,.0f}:"
        f" {ratio:.3f} times as many, {reference:.3f} are kept",
        flush=True,
    )
    if ratio > ALLOWED * reference:
        return f"{name}: {ratio:.3f} is over {ALLOWED} times {reference:.3f}"
    return None
