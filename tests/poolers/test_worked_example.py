"""docs/pgbouncer.md's example at a smaller size: hosts x workers x threads over few server sessions."""

from __future__ import absolute_import

import json
import os
import subprocess
import sys
import threading

import contenders
import support
from middlemen import PgBouncer
from scenarios import number
from watching import PoolerClients, ServerSessions

HERE = os.path.dirname(os.path.abspath(__file__))
#: Four hosts of two workers of two threads, over four sessions of the server.
HOSTS, WORKERS, THREADS, SERVERS = 4, 2, 2, 4
CLIENTS = HOSTS * WORKERS * THREADS


def order(bouncer, requests, **settings):
    """What a worker is told."""
    database = support.database_settings(
        "postgres", HOST=bouncer.host, PORT=str(bouncer.port), OPTIONS=contenders.options()
    )
    settings = dict(("PERSISTCONN_" + name, value) for name, value in settings.items())
    return json.dumps(
        {"database": database, "settings": settings, "threads": THREADS, "requests": requests}
    )


def run_workers(text):
    """Run all workers at once. Return what each reports."""
    command = [sys.executable, os.path.join(HERE, "worker.py"), text]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    workers = [subprocess.Popen(command, **pipes) for _ in range(HOSTS * WORKERS)]
    timer = threading.Timer(120, lambda: [worker.kill() for worker in workers])
    timer.start()
    try:
        for worker in workers:
            worker.stdout.readline()
        for worker in workers:
            worker.stdin.write(b"go\n")
            worker.stdin.flush()
        # What a worker says fits into a pipe.
        said = [worker.communicate() for worker in workers]
    finally:
        timer.cancel()
        timer.join()
    assert [worker.returncode for worker in workers] == [0] * len(workers), said
    return [json.loads(output.decode().splitlines()[-1]) for output, errors in said]


def test_hosts_workers_and_threads_share_few_sessions_without_an_error(cluster):
    requests = number(1000)
    cluster.query("TRUNCATE ledger")
    sizes = {"default_pool_size": SERVERS, "max_client_conn": CLIENTS + 10}
    bounds = {"MAX_CONNS": THREADS, "TIMEOUT": 10, "MAX_AGE": 600}
    with PgBouncer(cluster, query_wait_timeout=10, **sizes) as bouncer:
        with ServerSessions(cluster) as servers, PoolerClients(bouncer) as clients:
            reports = run_workers(order(bouncer, requests, **bounds))
    written = cluster.ask("SELECT count(*) FROM ledger")
    cluster.query("TRUNCATE ledger")
    print("%d clients, %d server sessions" % (clients.number, servers.number))
    assert [failed for report in reports for failed in report["failed"]] == []
    assert sum(report["served"] for report in reports) == CLIENTS * requests
    assert written == CLIENTS * requests // 2
    assert servers.taken > 20 and clients.taken > 20
    assert 0 < clients.number <= CLIENTS
    assert 0 < servers.number <= SERVERS
    assert max(report["stats"]["opened"] for report in reports) <= THREADS
