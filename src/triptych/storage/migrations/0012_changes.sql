-- compatible: a program that does not know this migration may go on
-- When each job changed last, and in which process: other processes tell their clients. A row per job, and not a column
-- of `jobs`, because SQLite writes a row as a whole, and the row of a job may have megabytes.
CREATE TABLE changes (
  job_id  TEXT PRIMARY KEY,
  mono    DOUBLE PRECISION NOT NULL,
  process TEXT NOT NULL
);
CREATE INDEX changes_by_time ON changes (mono);
-- When a provider's callback made the prediction due (monotonic).
ALTER TABLE predictions ADD COLUMN hinted_mono DOUBLE PRECISION NOT NULL DEFAULT 0;
