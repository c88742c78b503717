"""Always commit or roll back: no transaction outlives its unit of work."""

from __future__ import absolute_import

import logging

from persistconn import drivers
from persistconn.django_versions import dialect

logger = logging.getLogger("persistconn")


def finish(wrapper, entry):
    """End what is still open on a connection. Return why it cannot be kept, or None.

    What the unit of work has not committed is rolled back, as it was when Django closed the
    connection. Never committed.
    """
    raw, driver = entry.raw, entry.driver
    status = driver.status(raw)
    if driver.is_closed(raw):
        return "dead"
    if status in (drivers.ACTIVE, drivers.UNKNOWN):
        return "busy"
    try:
        if status != drivers.IDLE:
            driver.rollback(raw)
        dialect.forget_transactions(wrapper)
    except Exception:
        logger.warning("A connection is not kept: ending its transaction failed.", exc_info=True)
        return "error"
    return None
