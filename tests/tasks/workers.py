"""Worker processes, the units of work that they have done, and what PostgreSQL reports of them."""

from __future__ import absolute_import

import collections
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import support
from support import wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

#: Seconds within which anything here must happen, also on a busy machine.
PATIENCE = 60

#: What a project may do about its connections.
CONTENDERS = STOCK, MAX_AGE, PERSISTCONN = "stock", "CONN_MAX_AGE", "persistconn"

redis_server = None

#: One unit of work: its number, its session, its process, when it began and ended, and its error.
Unit = collections.namedtuple("Unit", "number pid process began ended error")


def environment(contender=PERSISTCONN, apps=(), **more):
    """The variables of a process with the project."""
    database = support.database_settings(support.DATABASE)
    if contender == MAX_AGE or "TASKS_MAX_CONNS" in more:
        database["CONN_MAX_AGE"] = 600
    ours = {
        "PYTHONPATH": os.pathsep.join([HERE, ROOT]),
        "PYTHONUNBUFFERED": "1",
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "TASKS_DATABASE": json.dumps(database),
        "TASKS_APPS": " ".join((["persistconn"] if contender == PERSISTCONN else []) + list(apps)),
        "TASKS_REDIS": redis_server.url,
    }
    return dict(os.environ, **dict(ours, **more))


def run(command, env):
    """Run a command to its end. Return its output."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m"] + command, env=env, cwd=HERE, stdout=output, stderr=output
        )
        try:
            assert wait_until(lambda: process.poll() is not None, 2 * PATIENCE), "it hangs"
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            output.seek(0)
            said = output.read().decode("utf-8", "replace")
            if process.returncode != 0:
                print(said)
    assert process.returncode == 0, said
    return said


def manage(*arguments):
    return ["project.manage"] + list(arguments)


def make_tables():
    """Make the database and the tables of the project and of all task systems that it can have."""
    support.ask("CREATE DATABASE %s" % support.DATABASE)
    support.ask("CREATE VIEW session AS SELECT pg_backend_pid() AS pid", support.DATABASE)
    apps = [app for app in APPS_WITH_TABLES if has(app)]
    if apps:
        run(manage("migrate", "--verbosity=0"), environment(STOCK, ["all"]))


def has(module):
    try:
        __import__(module)
    except ImportError:
        return False
    except Exception:
        pass  # it needs Django's settings
    return True


#: The apps with tables of their own.
APPS_WITH_TABLES = [
    "django_celery_results",
    "django_celery_beat",
    "django_q",
    "django_tasks_db",
    "django_dramatiq",
]


def versions(names):
    """(name, version) of those distributions that are installed."""
    for name in names:
        try:
            from importlib import metadata
        except ImportError:  # before 3.8
            import pkg_resources

            try:
                yield name, pkg_resources.get_distribution(name).version
            except pkg_resources.DistributionNotFound:
                continue
        else:
            try:
                yield name, metadata.version(name)
            except metadata.PackageNotFoundError:
                continue


def is_before(name, major):
    """Whether an older release than this one is installed."""
    return any(int(version.split(".")[0]) < major for _, version in versions([name]))


def redis():
    import redis

    return redis.StrictRedis(host=redis_server.host, port=redis_server.port)


def flush_redis():
    redis().flushall()


def units():
    """The units of work that have been done so far."""
    return [Unit(*json.loads(line.decode())) for line in redis().lrange("units", 0, -1)]


def count():
    """How many units of work have been done. A broker may give out one of them again."""
    return len(set(unit.number for unit in units()))


class Opened(object):
    """Counts the connections that were opened since this object was made."""

    def __init__(self):
        folder = os.path.dirname(support.ask("SHOW data_directory"))
        self._path = os.path.join(folder, "log")
        self._begin = os.path.getsize(self._path)

    def count(self):
        with open(self._path, "rb") as log:
            log.seek(self._begin)
            lines = log.read().decode("utf-8", "replace").splitlines()
        theirs = " database=%s" % support.DATABASE
        new = [line for line in lines if "connection authorized" in line and theirs in line]
        return len([line for line in new if support.OURS not in line])


class Ended(AssertionError):
    """The worker has ended by itself, before its work was done."""


class Worker(object):
    """A worker of a task system, from its start to the last of its children."""

    def __init__(self, command, env, stop_signal=signal.SIGTERM):
        self._folder = tempfile.mkdtemp()
        self._stop_signal = stop_signal
        self._log_path = os.path.join(self._folder, "log")
        with open(self._log_path, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m"] + command,
                env=dict(env, HOME=self._folder),
                cwd=HERE,
                stdout=log,
                stderr=log,
                preexec_fn=os.setsid,
            )

    def log(self):
        with open(self._log_path, "rb") as log:
            return log.read().decode("utf-8", "replace")

    def has_done(self, number):
        """Wait until so many units of work are done."""
        patience = PATIENCE + number / 5.0
        assert wait_until(lambda: self._is_at(number), patience), (count(), self.log())

    def _is_at(self, number):
        has_ended, done = self.has_ended(), count()
        if done < number and has_ended:
            raise Ended(self.log())
        time.sleep(0.02)
        return done >= number

    def has_ended(self):
        return self._process.poll() is not None

    def terminate(self):
        """End the worker as a supervisor does."""
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
        assert wait_until(lambda: self._process.poll() is not None, PATIENCE), self.log()

    def stop(self):
        """Kill what is left of the worker and of its children."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except OSError:
            pass
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def working(command, env, **options):
    worker = Worker(command, env, **options)
    try:
        yield worker
    except BaseException:
        print(worker.log()[-5000:])
        raise
    finally:
        worker.stop()


class Result(object):
    """What a run of ``number`` units of work has cost.

    ``opened``: connections; ``units``; ``states``: those of the sessions after the last unit, once
    all are idle, or after ``settles`` seconds.
    ``failed``: units with an error. ``innocent``: those of them that did not run during the kill.
    """

    def __init__(self, system, number, contender=PERSISTCONN, kills=False, settles=10, **options):
        env = environment(contender, system.apps, **options)
        flush_redis()
        system.enqueue(number, env)
        opened = Opened()
        with working(system.command(number), env) as worker:
            if kills:
                worker.has_done(number // 3)
                began = time.time()
                support.kill_backends()
                ended = time.time()
            worker.has_done(number)
            self.units = units()
            # A system may be in a transaction of its own for a moment.
            wait_until(self._is_idle, settles)
            worker.terminate()
        self.opened = opened.count()
        self.failed = [unit for unit in self.units if unit.error is not None]
        self.innocent = [
            unit for unit in self.failed if kills and (unit.ended < began or unit.began > ended)
        ]
        self.numbers = sorted(set(unit.number for unit in self.units))

    def _is_idle(self):
        self.states = support.states()
        return set(self.states) <= set(["idle"])
