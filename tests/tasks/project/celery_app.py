"""A Celery application as Celery's documentation has it."""

from __future__ import absolute_import

import os
import sys

from celery import VERSION, Celery, signals

from project import units

if "gevent" in " ".join(sys.argv) and "psycopg" not in sys.modules:
    try:
        from psycogreen.gevent import patch_psycopg
    except ImportError:
        pass  # psycopg 3 finds gevent by itself
    else:
        patch_psycopg()

app = Celery("project", broker=os.environ["TASKS_REDIS"] + "/4")
if VERSION < (4, 0):
    # Celery as root refuses pickle, which was the default.
    app.conf.update(CELERY_TASK_SERIALIZER="json", CELERY_ACCEPT_CONTENT=["json"])
if "TASKS_RESULTS" in os.environ:
    app.conf.update(result_backend="django-db", result_extended=True)
if "TASKS_REUSE_MAX" in os.environ:
    app.conf.update(CELERY_DB_REUSE_MAX=int(os.environ["TASKS_REUSE_MAX"]))

unit = app.task(name="unit")(units.unit)
close = app.task(name="close")(units.close)
switch = app.task(name="switch")(units.switch)
exhaust = app.task(name="exhaust")(units.exhaust)


def ask_in_the_parent(number):
    """Use the database in the worker's main process, and end nothing."""
    if "TASKS_PARENT_ASKS" in os.environ:
        units.report(number, units.session())


@signals.worker_ready.connect
def ready(**kwargs):
    ask_in_the_parent(-1)


@signals.worker_shutdown.connect
def shut_down(**kwargs):
    ask_in_the_parent(-2)
