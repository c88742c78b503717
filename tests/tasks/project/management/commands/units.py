"""A command that waits for jobs: N units of work in a loop, with or without an end of each."""

from __future__ import absolute_import

import time

from django.core.management.base import BaseCommand

from project import units


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("number", type=int)
        parser.add_argument("seconds", type=float)
        parser.add_argument("--ends", action="store_true")

    def handle(self, *args, **options):
        unit = units.unit
        if options["ends"]:
            from project import ended

            unit = ended.unit
        for number in range(options["number"]):
            unit(number, options["seconds"])
        time.sleep(600)
