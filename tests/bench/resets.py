"""What RESET costs, side by side in one run: ``python tests/bench/resets.py`` (PostgreSQL).

Each row is a unit of work with one query, in microseconds, and how many times as long as the same
work without a reset. The ways take turns, and a row is the shortest of the rounds, because other
programs of the machine only ever add to it.
"""

from __future__ import absolute_import, division, print_function

import os
import sys
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.dirname(TESTS)]

ROUNDS, UNITS = 25, 200


def discard_all(connection):
    """Do by hand what a pool does that knows nothing of Django: DISCARD ALL, and set up again."""
    with connection.cursor() as cursor:
        cursor.execute("DISCARD ALL")
    connection.init_connection_state()


def by_the_orm(connection):
    from site_app.models import Item

    list(Item.objects.all())


def by_a_cursor(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM item")
        cursor.fetchall()


def then_closing(connection):
    by_a_cursor(connection)
    connection.close()


#: name, work, RESET, and the row that it is compared with.
WAYS = [
    ("ORM, no reset", by_the_orm, None, "ORM, no reset"),
    ("ORM, RESET = 'session'", by_the_orm, "session", "ORM, no reset"),
    ("own cursor, no reset", by_a_cursor, None, "own cursor, no reset"),
    ("own cursor, RESET = 'session'", by_a_cursor, "session", "own cursor, no reset"),
    ("own cursor, RESET = 'DISCARD ALL'", by_a_cursor, "DISCARD ALL", "own cursor, no reset"),
    (
        "own cursor, DISCARD ALL and Django's set-up again",
        by_a_cursor,
        discard_all,
        "own cursor, no reset",
    ),
    ("own cursor, another connection each time", then_closing, None, "own cursor, no reset"),
]


def measure(work, reset):
    """Return the microseconds of a unit of work."""
    import support
    from django.db import connection

    import persistconn

    persistconn.drain()
    with support.database_as(PERSISTCONN={"RESET": reset}):
        for units in (20, UNITS):
            began = time.time()
            for _unit in range(units):
                work(connection)
                support.end_of_work()
        taken = time.time() - began
        persistconn.drain()
    return 1e6 * taken / UNITS


def main():
    import support

    server = support.chosen.Server()
    server.start()
    try:
        support.set_up_django(server)
        rounds = [
            [measure(work, reset) for _n, work, reset, _b in WAYS] for _round in range(ROUNDS)
        ]
        by_name = dict(zip([way[0] for way in WAYS], map(min, zip(*rounds))))
        for name, _work, _reset, beside in WAYS:
            print("%-52s %7.0f us %6.2f" % (name, by_name[name], by_name[name] / by_name[beside]))
    finally:
        support.close_sessions()
        server.stop()


if __name__ == "__main__":
    main()
