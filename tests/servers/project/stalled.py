"""Under gevent the line of an idle session goes dead; the next unit of work finds that out."""

from __future__ import absolute_import

import json
import time

from project import (
    sessions,
    with_gevent,  # noqa: F401, I001, before all else
)

if __name__ == "__main__":
    persistconn = sessions.set_up()

    from django.db import connection
    from proxy import Proxy

    class Server(object):
        host, port = connection.settings_dict["HOST"], int(connection.settings_dict["PORT"])

    with Proxy(Server) as proxy:
        connection.settings_dict.update(HOST=proxy.host, PORT=str(proxy.port))
        first = sessions.unit_of_work()
        proxy.stall()
        began = time.time()
        second = sessions.unit_of_work()
        took = time.time() - began
        persistconn.drain()
    print(json.dumps({"is_another": second != first, "seconds": took}))
