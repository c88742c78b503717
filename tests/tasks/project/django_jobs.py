from django.tasks import task

from project import units


@task()
def unit(number, seconds=0):
    units.unit(number, seconds)
