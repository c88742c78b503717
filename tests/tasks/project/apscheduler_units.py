"""N jobs of an APScheduler with four threads, with or without an end of each."""

import sys
import time

import django

django.setup()

from apscheduler.executors.pool import ThreadPoolExecutor  # noqa: E402
from apscheduler.schedulers.background import BackgroundScheduler  # noqa: E402

from project import ended, units  # noqa: E402

total, seconds = int(sys.argv[1]), float(sys.argv[2])
unit = ended.unit if "--ends" in sys.argv else units.unit
scheduler = BackgroundScheduler(executors={"default": ThreadPoolExecutor(4)})
for number in range(total):
    scheduler.add_job(unit, args=[number, seconds], misfire_grace_time=None)
scheduler.start()
time.sleep(600)
