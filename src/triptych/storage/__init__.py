"""The database: jobs, predictions, outputs, images and the budget, in SQLite or PostgreSQL.

Other packages use these modules; this file imports none of them:

    async_store   `AsyncStore`: the store for the event loop, each call in a worker thread
    jobs          `Store`: every write and its transaction
    claims        `Claim`: which prediction is due, and the leases
    summaries     the small, frequent reads of a running job
    reads         the reads, and the writes of images
    base          the database as a whole: its connection, counters and money
    budget        the ledger and the cap per 24 hours
    looks         the looks and their versions
    database      `Database`, the interface of both databases, and `open_database`
    sqlite        `Database`: the connection, statements by name, transactions
    postgres      the same over a pool of connections; with `postgres_pool`, `…_errors`, `…_clock`, `…_listen`
    copying       `copy`: a SQLite file into PostgreSQL
    statements    the statements of `queries.sql` by name
    rows          values as columns, rows as values

    migrations    the numbered changes of the tables

Inside stand `queries.sql`, with every statement, `queries_postgres.sql`, with those that PostgreSQL needs differently,
and `queries_thin.sql`, with those of a thin start.
"""

__all__ = [
    "async_store",
    "base",
    "budget",
    "claims",
    "copying",
    "database",
    "jobs",
    "looks",
    "migrations",
    "postgres",
    "reads",
    "rows",
    "sqlite",
    "statements",
    "summaries",
]
