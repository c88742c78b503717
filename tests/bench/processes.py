"""The processes that are measured, and the client: started, asked and always ended."""

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path

import database

HERE = Path(__file__).resolve().parent
#: Seconds in which any order must be done.
PATIENCE = 120


class Failed(Exception):
    """A process ended, did not answer, or answered with an error."""


class Process:
    """A process that answers each line with a line. Its error output is kept."""

    def __init__(self, command, env=None):
        self._log = tempfile.TemporaryFile("w+")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._log}
        # A group of its own: a server's children end with it.
        options = {"env": env, "cwd": HERE, "start_new_session": True}
        self._process = subprocess.Popen(command, **pipes, **options)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)

    def ask(self, **order):
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise Failed(self.last_words()) from None
        return self.answer()

    def answer(self):
        if not self._selector.select(PATIENCE):
            self._process.kill()
            raise Failed(f"no answer in {PATIENCE} seconds")
        line = self._process.stdout.readline()
        if not line:
            raise Failed(self.last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer["value"]

    def last_words(self):
        self._log.seek(0)
        lines = [line.strip() for line in self._log if line.strip()]
        errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Configured)\b", line)]
        return (errors or lines or [self._end()])[-1]

    def _end(self):
        try:
            return f"ended with {self._process.wait(timeout=1)}"
        except subprocess.TimeoutExpired:
            return "it runs, and has said nothing"

    def is_running(self):
        return self._process.poll() is None

    def close(self):
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.communicate()
        self._selector.close()
        self._log.close()


class Client(Process):
    """The HTTP client, with ``clients`` connections at once."""

    def __init__(self, clients):
        super().__init__([sys.executable, HERE / "client.py"])
        self._clients = clients

    def asking(self, metric, path, seconds):
        """A function that measures a server's requests per second, and its CPU time for each."""

        def ask(server):
            before = server.processor_seconds()
            order = {"path": path, "clients": self._clients, "seconds": seconds}
            answered = self.ask(port=server.port, **order)
            spent = server.processor_seconds() - before
            return {metric: answered["rate"], cpu(metric): 1e6 * spent / answered["requests"]}

        return ask


def nanoseconds(thread):
    try:
        return int((thread / "schedstat").read_text().split()[0])
    except FileNotFoundError:
        return 0  # it has just ended


def cpu(metric):
    """The metric of the CPU time that a request over HTTP costs the server."""
    return f"{metric}, CPU"


def environment(contender, address, package):
    """The environment variables of a contender's process."""
    paths = os.pathsep.join([str(HERE), str(package)])
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {
        **env,
        "PYTHONPATH": paths,
        "PYTHONDONTWRITEBYTECODE": "1",
        # New gunicorns keep a socket in HOME.
        "HOME": str(package),
        "BENCH_CONTENDER": json.dumps(contender.environment(address)),
    }


class Worker(Process):
    """A contender's process that works without a server. Call ``ready()`` before ``ask()``."""

    def __init__(self, python, *where):
        super().__init__([python, "-m", "measured.worker"], environment(*where))

    def ready(self):
        return self.answer()


class Gunicorn(Process):
    """A contender behind a real server, with ``threads`` threads."""

    def __init__(self, python, contender, *where, threads):
        self.port = database.free_port()
        options = [f"--worker-class={contender.worker}", f"--bind=127.0.0.1:{self.port}"]
        options += [f"--threads={threads}"] if contender.worker == "gthread" else []
        options += ["--workers=1", "--keep-alive=60", "--log-level=error"]
        options += ["--config=python:measured.gunicorn_settings", "measured.served:application"]
        command = [python, "-m", "gunicorn.app.wsgiapp", *options]
        super().__init__(command, environment(contender, *where))

    def processor_seconds(self):
        """The CPU time of the worker so far, in user space and in the kernel."""
        # schedstat has nanoseconds; the clock ticks of stat are as long as ten requests.
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        threads = [each for pid in children.split() for each in Path(f"/proc/{pid}/task").iterdir()]
        return sum(nanoseconds(thread) for thread in threads) / 1e9

    def ready(self):
        end = time.monotonic() + PATIENCE
        while not self._answers():
            if not self.is_running() or time.monotonic() > end:
                raise Failed(self.last_words())
            time.sleep(0.05)

    def _answers(self):
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/one/")
                status = connection.getresponse().status
            except OSError:
                return False
        if status != 200:
            raise Failed(f"{status}: {self.last_words()}")
        return True
