"""What requests wait for when connections reach MAX_AGE: `expiring.py PYTHON [SOURCES]...`, by hand.

PYTHON has Django, psycopg and wrapt. Each of SOURCES is a checkout of persistconn, by default this
one; settings may follow: `path,MIN_CONNS=4`. They are measured in turn, in the same run. PostgreSQL
is reached by TLS, and a connect takes 50 ms longer than it would. Four threads make requests at
random times for ten times MAX_AGE, which is 2 seconds.
"""

import json
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MAX_AGE, PERIODS, THREADS, THINK, DELAY = 2, 10, 4, 0.02, 0.05
ROUNDS = 2


class Latencies:
    """The worker: requests of independent clients, and the connects that they cause."""

    def __init__(self, address, more):
        from django.conf import settings

        database = {**address, "PERSISTCONN": {"MAX_AGE": MAX_AGE, **more}}
        settings.configure(DATABASES={"default": database}, INSTALLED_APPS=["persistconn"])
        import django

        django.setup()
        self.seconds, self.connects, self.now, self.at_once = [], [], 0, 0
        self.lock = threading.Lock()
        self._count_connects()

    def _count_connects(self):
        from django.db.backends.postgresql.base import DatabaseWrapper

        stock = DatabaseWrapper.get_new_connection

        def get_new_connection(wrapper, params):
            with self.lock:
                self.now += 1
                self.at_once = max(self.at_once, self.now)
            try:
                return stock(wrapper, params)
            finally:
                with self.lock:
                    self.now -= 1
                    self.connects.append(threading.current_thread().name)

        DatabaseWrapper.get_new_connection = get_new_connection

    def client(self, ends_at):
        while time.monotonic() < ends_at:
            time.sleep(random.expovariate(1 / THINK))
            self.seconds.append(self.request())

    def request(self):
        from django.db import close_old_connections, connection

        begin = time.perf_counter()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
        close_old_connections()
        return time.perf_counter() - begin

    def measure(self):
        together = threading.Barrier(THREADS)

        def warm_up():
            from django.db import close_old_connections, connection

            connection.ensure_connection()
            together.wait()
            close_old_connections()
            self.client(time.monotonic() + MAX_AGE * PERIODS)

        threads = [threading.Thread(target=warm_up) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        while self.now or len(self.connects) < THREADS:
            time.sleep(0.001)
        self.connects, self.at_once = [], 0
        for thread in threads:
            thread.join()
        return self.told()

    def told(self):
        taken = sorted(self.seconds)
        in_background = [name for name in self.connects if name == "persistconn opener"]
        return {
            "requests": len(taken),
            "p50": taken[len(taken) // 2],
            "p99": taken[len(taken) * 99 // 100],
            "worst": taken[-1],
            "above 25 ms": len([one for one in taken if one > 0.025]),
            "connects": len(self.connects),
            "in background": len(in_background),
            "at once": self.at_once,
        }


def forward(source, target):
    try:
        for data in iter(lambda: source.recv(65536), b""):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def carry(client, port):
    time.sleep(DELAY)
    server = socket.create_connection(("127.0.0.1", port))
    for line in (client, server):
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=forward, args=(server, client), daemon=True).start()
    forward(client, server)


def serve_proxy(port):
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    while True:
        client, _address = listener.accept()
        threading.Thread(target=carry, args=(client, port), daemon=True).start()


def run(python, sources, address):
    checkout, *given = str(sources).split(",")
    more = {name: int(value) for name, value in (one.split("=") for one in given)}
    command = [python, __file__, "--measure", json.dumps(address), json.dumps(more)]
    env = {"PYTHONPATH": checkout, "PATH": "/usr/bin:/bin"}
    limit = MAX_AGE * PERIODS + 60
    done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, timeout=limit)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def main(python, *sources):
    from database import PostgreSQL
    from fleet import address

    with PostgreSQL() as server:
        proxy = [sys.executable, __file__, "--proxy", str(server.server.port)]
        with subprocess.Popen(proxy, stdout=subprocess.PIPE, text=True) as process:
            try:
                where = address("postgresql", server, int(process.stdout.readline()))
                for _round in range(ROUNDS):
                    for checkout in sources or (HERE.parents[1],):
                        show(checkout, run(python, checkout, where))
            finally:
                process.kill()


def show(checkout, told):
    numbers = ["%s %.1f ms" % (name, 1000 * told[name]) for name in ("p50", "p99", "worst")]
    rest = "requests", "above 25 ms", "connects", "in background", "at once"
    numbers += ["%s %d" % (name, told[name]) for name in rest]
    print("%s: %s" % (checkout, ", ".join(numbers)), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        print(json.dumps(Latencies(*map(json.loads, sys.argv[2:])).measure()))
    elif sys.argv[1] == "--proxy":
        serve_proxy(int(sys.argv[2]))
    else:
        main(*sys.argv[1:])
