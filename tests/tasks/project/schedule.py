"""Have Celery's beat call a task each second."""

import django

django.setup()

from django_celery_beat.models import IntervalSchedule, PeriodicTask  # noqa: E402

second = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.SECONDS)
PeriodicTask.objects.create(interval=second, name="each second", task="unit", args="[1]")
