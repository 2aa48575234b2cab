"""The database: jobs, predictions, outputs, images and the budget, in SQLite.

Other packages use these modules; this file imports none of them:

    async_store   `AsyncStore`: the store for the event loop, each call in a worker thread
    jobs          `Store`: every write and its transaction
    claims        `Claim`: which prediction is due, and the leases
    summaries     the small, frequent reads of a running job
    reads         the reads, and the writes of images
    budget        the ledger and the cap per 24 hours
    looks         the looks and their versions
    sqlite        `Database`: the connection, statements by name, transactions
    rows          values as columns, rows as values

Inside stand `queries.sql`, with every statement, and `migrations`, with the numbered changes of the tables.
"""

__all__ = ["async_store", "budget", "claims", "jobs", "looks", "reads", "rows", "sqlite", "summaries"]
