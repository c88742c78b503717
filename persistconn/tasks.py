"""Celery's tasks: each is a unit of work.

Celery's fixup for Django closes all connections by ``close_database()`` before and after each task.
"""

from persistconn import lifecycle
from persistconn.work import works


def close_database(fixup, celery_closes):
    """End the unit of work. ``celery_closes()`` is Celery's own function."""
    recycles = fixup._db_recycles
    try:
        lifecycle.end_of_work()
    finally:
        # Closes what is still open, as it is not persistconn's, and counts for DB_REUSE_MAX.
        celery_closes()
    _note_task(works.mine, fixup.app.current_task)
    if fixup._db_recycles < recycles:
        lifecycle.pools.drain()  # so many tasks may use a connection, and no more


def _note_task(work, task):
    """Note the task that begins now, or that the noted one has ended."""
    noted = None if task is None else (task.request.id, task.name)
    work.task = None if noted == work.task else noted
