"""The unit of work with the one line that ends it."""

from __future__ import absolute_import

import persistconn
from project import units


@persistconn.unit_of_work()
def unit(number, seconds=0):
    units.unit(number, seconds)
