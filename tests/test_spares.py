"""Connections that are opened in the background: MIN_CONNS, and successors ahead of MAX_AGE."""

from __future__ import absolute_import

import threading
import time

from support import backends, end_of_work, pid, settings_as, unit_of_work, wait_until

import persistconn


def test_min_conns_are_opened_after_the_first_unit_of_work():
    with settings_as(PERSISTCONN_MIN_CONNS=3):
        unit_of_work()
        assert wait_until(lambda: len(backends()) == 3)
        assert wait_until(lambda: persistconn.stats()["default"]["idle"] == 3)
        assert not wait_until(lambda: len(backends()) > 3, seconds=1.2)
