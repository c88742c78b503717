"""Checkout and checkin of pools alone, each with as many open connections as there are threads.

So no thread waits for a connection. The connections are psycopg2's; only psycopg_pool, which takes
no others, has those of psycopg 3.
"""

from __future__ import absolute_import

import threading

from measured.requests import timer

BATCH = 10


def persistconn(connect, size):
    from persistconn import conf, drivers
    from persistconn.pool.pool import Pool

    pool = Pool(conf.of({}))
    pool.check_idle = lambda entry: None
    entries = [pool.acquire() for _number in range(size)]
    for entry in entries:
        raw = connect()
        entry.opened(raw, drivers.of(raw))
    for entry in entries:
        pool.release(entry)

    def use():
        pool.release(pool.acquire())

    return use, pool.drain


def threaded_connection_pool(connect, size):
    from psycopg2.pool import ThreadedConnectionPool

    pool = ThreadedConnectionPool(size, size, **connect.keywords)

    def use():
        pool.putconn(pool.getconn())

    return use, pool.closeall


def psycopg_pool(connect, size):
    from psycopg_pool import ConnectionPool

    pool = ConnectionPool(kwargs=dict(connect.keywords), min_size=size, max_size=size, open=True)
    pool.wait()

    def use():
        pool.putconn(pool.getconn())

    return use, pool.close


def queue_pool(connect, size):
    from sqlalchemy.pool import QueuePool

    pool = QueuePool(connect, pool_size=size, max_overflow=0)
    for connection in [pool.connect() for _number in range(size)]:
        connection.close()

    def use():
        pool.connect().close()

    return use, pool.dispose


POOLS = {
    "persistconn.pool.Pool": persistconn,
    "psycopg2 ThreadedConnectionPool": threaded_connection_pool,
    "psycopg_pool ConnectionPool": psycopg_pool,
    "SQLAlchemy QueuePool": queue_pool,
}


def measure(name, connect, threads, seconds):
    """The seconds of one checkout and checkin, with ``threads`` threads that do nothing else."""
    use, close = POOLS[name](connect, threads)
    counts, end = [], [0]

    def user():
        count = 0
        while timer() < end[0]:
            for _turn in range(BATCH):
                use()
            count += BATCH
        counts.append(count)

    users = [threading.Thread(target=user) for _number in range(threads)]
    begin = timer()
    end[0] = begin + seconds
    for thread in users:
        thread.start()
    for thread in users:
        thread.join()
    each = (timer() - begin) / sum(counts)
    close()
    return each
