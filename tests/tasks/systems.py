"""The task systems: how their workers are started, and how they get units of work."""

from __future__ import absolute_import

import copy

import workers
from workers import manage, run

#: The slots of Celery's pools: how many tasks run at once.
PREFORK, THREADS, GREENLETS = 2, 4, 20


class System(object):
    """One way to run units of work.

    ``distributions``: those that it is made of. ``slots``: how many units run at once. ``more``: how
    many connections the system opens for itself.
    """

    def __init__(self, name, distributions, command, queue=None, apps=(), slots=1, more=0):
        self.name, self.distributions = name, distributions
        self.queue, self.apps, self.slots, self.more = queue, list(apps), slots, more
        self.seconds = 0.0
        self._command = command

    def __repr__(self):
        return self.name

    def is_installed(self):
        return len(list(workers.versions(self.distributions))) == len(self.distributions)

    def command(self, number):
        """The worker's command. A program without a queue is given the number of units."""
        words = [word.replace("NUMBER", str(number)) for word in self._command]
        return [word.replace("SECONDS", str(self.seconds)) for word in words]

    def ended(self):
        """The same with units that unit_of_work() ends."""
        ended = copy.copy(self)
        ended.queue = self.queue and self.queue + "_ended"
        if self.queue is None:
            ended._command = self._command + ["--ends"]
        return ended

    def slow(self):
        """The same with units that take some time, so that a kill meets running ones."""
        slow = copy.copy(self)
        slow.seconds = 0.02
        return slow

    def enqueue(self, number, env):
        if self.queue is not None:
            run(["project.enqueue", self.queue, str(number), str(self.seconds)], env)


def celery(pool, slots, **options):
    words = ["project.celery_command", "-A", "project.celery_app", "worker", "--loglevel=WARNING"]
    words += ["--pool=" + pool, "--concurrency=%d" % slots, "--without-mingle", "--without-gossip"]
    return System("Celery, " + pool, ["celery"], words, "celery", slots=slots, **options)


PREFORKED = celery("prefork", PREFORK)
THREADED = celery("threads", THREADS)
GREEN = celery("gevent", GREENLETS)
SOLO = celery("solo", 1)

RQ_FORKS = System(
    "RQ, a fork for each job",
    ["rq", "django-rq"],
    manage("rqworker", "default"),
    "rq",
    ["django_rq"],
)
RQ_SIMPLE = System(
    "RQ, SimpleWorker",
    ["rq", "django-rq"],
    manage("rqworker", "default", "--worker-class=rq.SimpleWorker"),
    "rq",
    ["django_rq"],
)
HUEY = System(
    "Huey, db_task()", ["huey"], manage("run_huey"), "huey", ["huey.contrib.djhuey"], slots=4
)
HUEY_PLAIN = System(
    "Huey, task()", ["huey"], manage("run_huey"), "huey_plain", ["huey.contrib.djhuey"], slots=4
)
DRAMATIQ = System(
    "Dramatiq",
    ["dramatiq", "django-dramatiq"],
    manage("rundramatiq", "--processes=1", "--threads=4"),
    "dramatiq",
    ["django_dramatiq"],
    slots=4,
)
DJANGO_TASKS = System(
    "Django's tasks, django-tasks-db",
    ["django-tasks-db"],
    manage("db_worker", "--interval=0.1", "--no-startup-delay"),
    "django_tasks",
    ["django_tasks_db"],
)
# Its sentinel, its pusher and its monitor have connections, too.
DJANGO_Q = System(
    "django-q2", ["django-q2"], manage("qcluster"), "django_q", ["django_q"], slots=2, more=3
)
CHANNELS = System(
    "Channels, database_sync_to_async()",
    ["channels"],
    ["project.channels_units", "NUMBER", "SECONDS"],
    slots=20,
)
APSCHEDULER = System(
    "APScheduler",
    ["APScheduler"],
    ["project.apscheduler_units", "NUMBER", "SECONDS"],
    slots=4,
)
SHELL = System(
    "manage.py shell",
    ["Django"],
    manage("shell", "-c", "from project.shell import do; do(NUMBER, SECONDS)"),
)
COMMAND = System("a management command", ["Django"], manage("units", "NUMBER", "SECONDS"))

BEAT = ["celery", "-A", "project.celery_app", "beat", "--loglevel=INFO", "--max-interval=1"]
BEAT += ["--scheduler=django_celery_beat.schedulers:DatabaseScheduler"]

#: Celery 3.1 has another name for it.
MAX_TASKS_PER_CHILD = "--max-tasks-per-child=%d"
if workers.is_before("celery", 4):
    MAX_TASKS_PER_CHILD = "--maxtasksperchild=%d"

#: Those of the table in docs/tasks.md.
ALL = [PREFORKED, THREADED, GREEN, SOLO, RQ_FORKS, RQ_SIMPLE, HUEY, HUEY_PLAIN, DRAMATIQ]
ALL += [DJANGO_TASKS, DJANGO_Q, CHANNELS, APSCHEDULER, COMMAND, SHELL]
