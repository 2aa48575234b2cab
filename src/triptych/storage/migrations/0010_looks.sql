-- The caller's text for each lane's first image, as a JSON list.
ALTER TABLE jobs ADD COLUMN sources TEXT;
-- The versions of looks. A removed look has a last version with `removed` 1; the owner of the person at the machine is ''.
CREATE TABLE looks (
  owner      TEXT NOT NULL,
  name       TEXT NOT NULL,
  version    INTEGER NOT NULL,
  words      TEXT NOT NULL,
  images     TEXT NOT NULL,             -- handles, as a JSON list
  removed    INTEGER NOT NULL DEFAULT 0,
  created_at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (owner, name, version)
);
-- The files that Triptych wrote into users' directories. A folder or pattern as an argument leaves them out.
CREATE TABLE saved_files (
  path TEXT PRIMARY KEY
);
-- Each step of a prediction looks into these, so it takes as long in a job of 2,000 predictions as in a job of one.
CREATE INDEX predictions_queued ON predictions (provider, due_at, created_at, lane, step) WHERE state = 'queued';
CREATE INDEX predictions_unsettled ON predictions (attempts, due_at)
WHERE state = 'done' AND charged_usd IS NULL AND ticket IS NOT NULL;
CREATE INDEX predictions_leased ON predictions (lease) WHERE lease IS NOT NULL;
CREATE INDEX frames_stored ON frames (job_id) WHERE sha256 IS NOT NULL;
-- The jobs that make failed lanes of another job again.
CREATE INDEX jobs_by_retry ON jobs (json_extract(request, '$.retry_of'))
  WHERE json_extract(request, '$.retry_of') IS NOT NULL;
