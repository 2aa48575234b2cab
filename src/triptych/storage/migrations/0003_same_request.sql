-- The same request is the same job for an hour after its end; a repeated call may name a further directory.

-- When the job became done or partial, by the wall clock and by the clock that counts from the machine's start. Null
-- while it is neither.
ALTER TABLE jobs ADD COLUMN ended_at DOUBLE PRECISION;
ALTER TABLE jobs ADD COLUMN ended_mono DOUBLE PRECISION;

-- Directories that repeated calls named: the job's stored images are copied into them once it has ended.
CREATE TABLE saves (
  job_id    TEXT NOT NULL,
  directory TEXT NOT NULL,
  saved     INTEGER NOT NULL DEFAULT 0, -- how many of the job's images were stored when it was last copied
  PRIMARY KEY (job_id, directory)
);
