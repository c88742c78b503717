"""Server processes, requests to them, and what PostgreSQL reports of their sessions."""

from __future__ import absolute_import

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import django
import support
from support import wait_until

try:
    from http.client import HTTPConnection
except ImportError:
    from httplib import HTTPConnection

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

#: Seconds within which anything here must happen, also on a busy machine.
PATIENCE = 30


def environment(options=None, settings=None, **more):
    """The variables of a process with the project, for these OPTIONS and PERSISTCONN settings."""
    settings = dict(("PERSISTCONN_" + name, value) for name, value in (settings or {}).items())
    database = support.database_settings(support.DATABASE, OPTIONS=options or {})
    ours = {
        "PYTHONPATH": os.pathsep.join([HERE, ROOT]),
        "PYTHONUNBUFFERED": "1",
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "SERVERS_DATABASE": json.dumps(database),
        "SERVERS_SETTINGS": json.dumps(dict({"PERSISTCONN_MAX_AGE": 600}, **settings)),
    }
    if sys.version_info >= (3,):
        ours["PYTHONWARNINGS"] = "always::ResourceWarning"
    return dict(os.environ, **dict(ours, **more))


def without_persistconn(env):
    """The same variables for stock Django."""
    settings = dict(json.loads(env["SERVERS_SETTINGS"]), INSTALLED_APPS=[], MIDDLEWARE_CLASSES=[])
    return dict(env, SERVERS_SETTINGS=json.dumps(settings))


def run_script(module, *arguments, **options):
    """Run one of the project's modules to its end. Return the values it printed, and its errors."""
    env = options.pop("env", None) or environment(**options)
    command = [sys.executable, "-m", "project." + module] + list(arguments)
    script = subprocess.Popen(
        command, env=env, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, errors = [text.decode() for text in script.communicate()]
    assert script.returncode == 0, errors
    return json.loads(output.splitlines()[-1]), without_noise(errors)


def without_noise(log):
    """The output of a process without one message of Django 1.5 at the exit.

    Under gevent and Python 2 Django writes it with or without persistconn, as soon as a model is
    imported: its signals outlive their locks.
    """
    noise = (
        "'NoneType' object has no attribute 'acquire'\",) in <bound method Signal._remove_receiver"
    )
    return "".join(line for line in log.splitlines(True) if noise not in line)


def program(name):
    """The path of a program of this interpreter's environment, or None."""
    path = os.path.join(os.path.dirname(sys.executable), name)
    return path if os.path.exists(path) else None


class Server(object):
    """A server process, from its start to the last of its children."""

    def __init__(self, command, env, folder, stop_signal=signal.SIGTERM):
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._listener.close()
        self._log_path = os.path.join(folder, "server.log")
        self._stop_signal = stop_signal
        command = [word.replace("PORT", str(self.port)) for word in command]
        # New gunicorns keep a socket in HOME.
        env = dict(env, HOME=folder)
        with open(self._log_path, "wb") as log:
            self._process = subprocess.Popen(
                command, env=env, cwd=HERE, stdout=log, stderr=log, preexec_fn=os.setsid
            )
        try:
            assert wait_until(self._is_ready, PATIENCE), self.log()
        except BaseException:
            self.stop()
            raise

    def _is_ready(self):
        assert self._process.poll() is None, self.log()
        try:
            return self.get("/ready/") is not None
        except (OSError, socket.error):
            return False

    def log(self):
        with open(self._log_path) as log:
            return without_noise(log.read())

    def get(self, path):
        """Make a request. Return the values of its answer, or raise an error of the network."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read().decode()
            assert response.status == 200, (path, response.status, body)
            if response.getheader("Content-Type") == "application/json":
                return json.loads(body)
            return body
        finally:
            connection.close()

    def get_many(self, paths, clients):
        """Have ``clients`` clients ask for all paths. Return the answers in the paths' order."""
        answers, todo, lock = [None] * len(paths), list(enumerate(paths)), threading.Lock()

        def client():
            while True:
                with lock:
                    if not todo:
                        return
                    number, path = todo.pop(0)
                try:
                    answers[number] = self.get(path)
                except Exception as error:
                    answers[number] = error

        threads = [threading.Thread(target=client) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def hang_up(self, path, after):
        """Send a request, and close the line once ``after(line)`` is true, answered or not."""
        line = socket.create_connection(("127.0.0.1", self.port))
        line.sendall(("GET %s HTTP/1.1\r\nHost: testserver\r\n\r\n" % path).encode())
        try:
            assert wait_until(lambda: after(line), PATIENCE)
        finally:
            line.close()

    def stats(self, *names):
        # Before 3.2 all views that are not async take turns in one thread.
        stats = self.get("/async/stats/" if django.VERSION >= (3, 1) else "/stats/")
        return tuple(stats.get(name) for name in names)

    def signal(self, number):
        self._process.send_signal(number)

    def exit_code(self):
        """The exit code, or None while the server runs."""
        return self._process.poll()

    def terminate(self):
        """End the server as a supervisor does. Return the seconds it took, and the exit code."""
        began = time.time()
        self._process.send_signal(self._stop_signal)
        assert wait_until(lambda: self._process.poll() is not None, PATIENCE), self.log()
        return time.time() - began, self._process.returncode

    def stop(self):
        """Kill what is left of the server and of its children."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except OSError:
            pass
        self._process.wait()


@contextlib.contextmanager
def serving(*arguments, **options):
    server = Server(*arguments, **options)
    try:
        yield server
    finally:
        server.stop()
        assert wait_until(lambda: support.backends() == [])


class Samples(object):
    """``most`` is the greatest number of sessions at once while a block ran."""

    def __init__(self, interval=0.01):
        self.most = self.taken = 0
        self._interval = interval
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._end.is_set():
            self.most = max(self.most, len(support.backends()))
            self.taken += 1
            self._end.wait(self._interval)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._end.set()
        self._thread.join()


class DatabaseLog(object):
    """What PostgreSQL has logged since this object was made."""

    def __init__(self):
        folder = os.path.dirname(support.ask("SHOW data_directory"))
        self._path = os.path.join(folder, "log")
        self._begin = os.path.getsize(self._path)

    def read(self):
        with open(self._path, "rb") as log:
            log.seek(self._begin)
            return log.read().decode("utf-8", "replace")

    def bad_leaves(self):
        """The log lines about clients that left without a good-bye or broke the protocol."""
        signs = ("unexpected EOF", "could not receive", "invalid message", "protocol", "reset by")
        return [line for line in self.read().splitlines() if any(s in line for s in signs)]
