"""A worker process of the worked example: `worker.py '{"threads": 2, ...}'`.

It says that it is ready, waits for a line, serves `requests` requests in each of its threads through
Django's WSGI handler, and prints the outcome as JSON.
"""

from __future__ import absolute_import

import json
import os
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
sys.path[:0] = [HERE, os.path.join(TESTS, "faults"), TESTS, os.path.dirname(TESTS)]


def main(order):
    import django
    import support
    from django.conf import settings

    project = dict(support.PROJECT, ROOT_URLCONF="pooler_urls", **order["settings"])
    settings.configure(
        DATABASES={"default": order["database"]}, INSTALLED_APPS=["persistconn"], **project
    )
    if hasattr(django, "setup"):
        django.setup()
    import persistconn

    persistconn.install()
    print("ready")
    sys.stdout.flush()
    sys.stdin.readline()
    units = serve(order)
    stats = persistconn.stats()["default"]
    persistconn.drain()
    seconds = sorted(unit.seconds for unit in units)
    failed = [repr(unit) for unit in units if not unit.is_acknowledged]
    print(
        json.dumps({"served": len(units), "failed": failed, "worst": seconds[-1], "stats": stats})
    )


def serve(order):
    from ledger import Ledger

    ledger = Ledger()

    def run():
        for turn in range(order["requests"]):
            ledger.unit("answering" if turn % 2 else "transactional", pause=0.001).run()

    threads = [threading.Thread(target=run) for _ in range(order["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ledger.units


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
