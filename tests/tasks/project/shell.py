"""What is typed into the shell."""

from __future__ import absolute_import

import time

from project import units


def do(number, seconds):
    for each in range(number):
        units.unit(each, seconds)
    time.sleep(600)
