"""Give a task system N units of work: ``python -m project.enqueue celery 1000 0.01``."""

from __future__ import absolute_import

import sys


def celery(number, *arguments):
    return celery_task("unit", number, *arguments)


def celery_task(name, number, *arguments):
    from project import celery_app

    getattr(celery_app, name).delay(number, *arguments)


def rq(number, *arguments):
    import django_rq

    from project import units

    django_rq.enqueue(units.unit, number, *arguments)


def rq_ended(number, *arguments):
    import django_rq

    from project import ended

    django_rq.enqueue(ended.unit, number, *arguments)


def huey(number, *arguments):
    from project import tasks

    tasks.db_unit(number, *arguments)


def huey_plain(number, *arguments):
    from project import tasks

    tasks.unit(number, *arguments)


def huey_plain_ended(number, *arguments):
    from project import tasks

    tasks.ended_unit(number, *arguments)


def django_q_ended(number, *arguments):
    from django_q.tasks import async_task

    async_task("project.ended.unit", number, *arguments)


def dramatiq(number, *arguments):
    from project import dramatiq_jobs

    dramatiq_jobs.unit.send(number, *arguments)


def django_tasks(number, *arguments):
    from project import django_jobs

    django_jobs.unit.enqueue(number, *arguments)


def django_q(number, *arguments):
    from django_q.tasks import async_task

    async_task("project.units.unit", number, *arguments)


if __name__ == "__main__":
    import django

    if hasattr(django, "setup"):
        django.setup()
    enqueue = globals()[sys.argv[1]]
    seconds = float(sys.argv[3])
    for number in range(int(sys.argv[2])):
        enqueue(number, seconds)
