"""Huey's tasks."""

from huey.contrib.djhuey import db_task, task

from project import units

db_unit = db_task(name="db_unit")(units.unit)
unit = task(name="unit")(units.unit)


@task(name="ended_unit")
def ended_unit(number, seconds=0):
    from project import ended

    ended.unit(number, seconds)
