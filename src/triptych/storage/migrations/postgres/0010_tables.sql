-- The tables of version 10, as SQLite's migrations 1 to 10 leave them. Times are seconds, money is decimal text, lists
-- are JSON text. Due times, deadlines and leases are seconds of this server's own clock.
CREATE TABLE images (
  sha256     TEXT PRIMARY KEY,
  handle     TEXT NOT NULL UNIQUE,
  mime_type  TEXT NOT NULL,
  width      BIGINT NOT NULL,
  height     BIGINT NOT NULL,
  bytes      BIGINT NOT NULL,
  file       TEXT NOT NULL,
  created_at DOUBLE PRECISION NOT NULL,
  pruned_at  DOUBLE PRECISION
);

CREATE TABLE holders (
  sha256 TEXT NOT NULL,
  owner  TEXT NOT NULL,
  PRIMARY KEY (sha256, owner)
);

CREATE TABLE copies (
  sha256     TEXT NOT NULL,
  provider   TEXT NOT NULL,
  url        TEXT NOT NULL,
  expires_at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (sha256, provider)
);

CREATE TABLE jobs (
  id               TEXT PRIMARY KEY,
  created_at       DOUBLE PRECISION NOT NULL,
  fingerprint      TEXT NOT NULL,
  provider         TEXT NOT NULL,
  model            TEXT NOT NULL,
  endpoint         TEXT NOT NULL,
  save_to          TEXT,
  warnings         TEXT NOT NULL,
  cancel_requested BIGINT NOT NULL DEFAULT 0,
  routes           TEXT NOT NULL,
  status           TEXT NOT NULL,
  returned         BIGINT NOT NULL DEFAULT 0,
  owner            TEXT,
  ended_at         DOUBLE PRECISION,
  ended_mono       DOUBLE PRECISION,
  page_size        BIGINT,
  request          TEXT NOT NULL DEFAULT '{}',
  live_offer       TEXT,
  sources          TEXT
);
CREATE INDEX jobs_by_time ON jobs (created_at);
CREATE INDEX jobs_by_owner ON jobs (owner, created_at);
CREATE INDEX jobs_by_fingerprint ON jobs (fingerprint, status);
-- `retry_of` is the last member of a request. JSON functions would refuse a request with an escaped NUL in its prompt.
CREATE INDEX jobs_by_retry ON jobs ((substring(request from '"retry_of":"([^"\\]*)"}$')))
  WHERE substring(request from '"retry_of":"([^"\\]*)"}$') IS NOT NULL;

CREATE TABLE predictions (
  id                 TEXT PRIMARY KEY,
  job_id             TEXT NOT NULL,
  lane               BIGINT NOT NULL,
  step               BIGINT NOT NULL,
  after_id           TEXT,
  first_output       BIGINT NOT NULL,
  state              TEXT NOT NULL,
  provider           TEXT NOT NULL,
  endpoint           TEXT NOT NULL,
  operation          TEXT NOT NULL,
  size               TEXT,
  client_id          TEXT NOT NULL,
  variation          TEXT NOT NULL,
  quoted_usd         TEXT NOT NULL,
  quote_exact        BIGINT NOT NULL,
  reserved_usd       TEXT NOT NULL,
  charged_usd        TEXT,
  charge_is_estimate BIGINT NOT NULL DEFAULT 0,
  ticket             TEXT,
  poll_url           TEXT,
  created_at         DOUBLE PRECISION NOT NULL,
  created_mono       DOUBLE PRECISION,
  submitted_at       DOUBLE PRECISION,
  submitted_mono     DOUBLE PRECISION,
  looked_mono        DOUBLE PRECISION,
  deadline_at        DOUBLE PRECISION,
  finished_at        DOUBLE PRECISION,
  due_at             DOUBLE PRECISION NOT NULL,
  attempts           BIGINT NOT NULL DEFAULT 0,
  fault              TEXT,
  sent_urls          TEXT,
  lease              TEXT,
  lease_until        DOUBLE PRECISION NOT NULL DEFAULT 0
);
CREATE INDEX predictions_by_job ON predictions (job_id, state);
CREATE INDEX predictions_due ON predictions (state, due_at);
CREATE INDEX predictions_after ON predictions (after_id);
CREATE INDEX predictions_by_spending ON predictions (COALESCE(submitted_at, created_at));
CREATE INDEX predictions_queued ON predictions (provider, due_at, created_at, lane, step) WHERE state = 'queued';
CREATE INDEX predictions_unsettled ON predictions (attempts, due_at)
  WHERE state = 'done' AND charged_usd IS NULL AND ticket IS NOT NULL;
CREATE INDEX predictions_leased ON predictions (lease) WHERE lease IS NOT NULL;

CREATE TABLE frames (
  job_id         TEXT NOT NULL,
  n              BIGINT NOT NULL,
  prediction_id  TEXT NOT NULL,
  url            TEXT,
  url_expires_at DOUBLE PRECISION,
  sha256         TEXT,
  saved_path     TEXT,
  source         TEXT NOT NULL,
  error          TEXT,
  attempts       BIGINT NOT NULL DEFAULT 0,
  created_at     DOUBLE PRECISION NOT NULL,
  layer          TEXT,
  PRIMARY KEY (job_id, n)
);
CREATE INDEX frames_by_image ON frames (sha256);
CREATE INDEX frames_by_prediction ON frames (prediction_id);
CREATE INDEX frames_by_time ON frames (created_at);
CREATE INDEX frames_stored ON frames (job_id) WHERE sha256 IS NOT NULL;

CREATE TABLE saves (
  job_id    TEXT NOT NULL,
  directory TEXT NOT NULL,
  saved     BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (job_id, directory)
);

CREATE TABLE saved_files (
  path TEXT PRIMARY KEY
);

CREATE TABLE file_secret (
  one    BIGINT PRIMARY KEY CHECK (one = 1),
  secret TEXT NOT NULL
);

CREATE TABLE looks (
  owner      TEXT NOT NULL,
  name       TEXT NOT NULL,
  version    BIGINT NOT NULL,
  words      TEXT NOT NULL,
  images     TEXT NOT NULL,
  removed    BIGINT NOT NULL DEFAULT 0,
  created_at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (owner, name, version)
);

-- One row for each commit of the last minutes. If the answer to a COMMIT is lost, a second connection asks for its
-- token: `kept` is whether that commit, or the question, was first.
CREATE TABLE commits (
  token TEXT PRIMARY KEY,
  kept  BOOLEAN NOT NULL,
  at    DOUBLE PRECISION NOT NULL DEFAULT extract(epoch FROM clock_timestamp())
);
CREATE INDEX commits_by_time ON commits (at);
