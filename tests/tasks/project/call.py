"""Call one task of Celery: ``python -m project.call switch 3 uninstall``."""

from __future__ import absolute_import

import sys

import django

from project import enqueue

if hasattr(django, "setup"):
    django.setup()
enqueue.celery_task(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
