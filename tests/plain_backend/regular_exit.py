"""A process whose forked child ends regularly. Prints whether the parent's session outlives that."""

from __future__ import absolute_import

import json
import os
import sys
import time

import support
from django.conf import settings


class Server(object):
    host, port, user, database = json.loads(sys.argv[1])


support.server = Server
database = dict(support.database_settings(support.DATABASE), ENGINE="plain_backend")
settings.configure(
    DATABASES={"default": database}, INSTALLED_APPS=["persistconn"], **support.PROJECT
)

if __name__ == "__main__":
    import django

    if hasattr(django, "setup"):
        django.setup()
    import persistconn

    before = support.unit_of_work()
    child = os.fork()
    if child == 0:
        assert support.unit_of_work() != before
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    # The server needs a moment to see the end of a session.
    time.sleep(0.2)
    print(json.dumps(support.unit_of_work() == before))
    persistconn.drain()
