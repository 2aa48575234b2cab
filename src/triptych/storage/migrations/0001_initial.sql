-- The tables of version 1. Times are UTC seconds, money is decimal text, lists are JSON text, and nothing relies on row
-- ids or on the database's own clock.
--
-- A file without a version is a new one, or it was made before jobs had owners: each statement fits both.

CREATE TABLE IF NOT EXISTS images (
  sha256     TEXT PRIMARY KEY,
  handle     TEXT NOT NULL UNIQUE,
  mime_type  TEXT NOT NULL,
  width      INTEGER NOT NULL,
  height     INTEGER NOT NULL,
  bytes      INTEGER NOT NULL,
  file       TEXT NOT NULL,             -- below TRIPTYCH_HOME/images
  created_at DOUBLE PRECISION NOT NULL
);

-- Who brought which image in, where clients have tokens: only they may name it by its handle.
CREATE TABLE IF NOT EXISTS holders (
  sha256 TEXT NOT NULL,
  owner  TEXT NOT NULL,                 -- derived from a token by hash, never the token
  PRIMARY KEY (sha256, owner)
);

-- Where an image can be read at a provider, so that it is uploaded there once.
CREATE TABLE IF NOT EXISTS copies (
  sha256     TEXT NOT NULL,
  provider   TEXT NOT NULL,
  url        TEXT NOT NULL,
  expires_at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (sha256, provider)
);

CREATE TABLE IF NOT EXISTS jobs (
  id               TEXT PRIMARY KEY,
  tool             TEXT NOT NULL,
  created_at       DOUBLE PRECISION NOT NULL,
  fingerprint      TEXT NOT NULL,       -- of everything that makes two requests the same
  provider         TEXT NOT NULL,
  model            TEXT NOT NULL,
  endpoint         TEXT NOT NULL,
  prompt           TEXT NOT NULL,
  requested        INTEGER NOT NULL,
  lanes            INTEGER NOT NULL,
  steps            INTEGER NOT NULL,
  save_to          TEXT,
  warnings         TEXT NOT NULL,
  cancel_requested INTEGER NOT NULL DEFAULT 0,
  routes           TEXT NOT NULL,       -- where it may still go, when refused before it was accepted
  status           TEXT NOT NULL,       -- follows from the predictions; written in the same transaction as they are
  returned         INTEGER NOT NULL DEFAULT 0
);
ALTER TABLE jobs ADD COLUMN owner TEXT; -- as in holders; null for the person at the machine
CREATE INDEX IF NOT EXISTS jobs_by_time ON jobs (created_at);
CREATE INDEX IF NOT EXISTS jobs_by_owner ON jobs (owner, created_at);
CREATE INDEX IF NOT EXISTS jobs_by_fingerprint ON jobs (fingerprint, status);

CREATE TABLE IF NOT EXISTS predictions (
  id            TEXT PRIMARY KEY,
  job_id        TEXT NOT NULL,
  lane          INTEGER NOT NULL,
  step          INTEGER NOT NULL,
  after_id      TEXT,                   -- the prediction whose first output is this one's first input
  first_output  INTEGER NOT NULL,
  state         TEXT NOT NULL,
  provider      TEXT NOT NULL,
  endpoint      TEXT NOT NULL,
  operation     TEXT NOT NULL,
  prompt        TEXT NOT NULL,
  count         INTEGER NOT NULL,
  width         INTEGER,
  height        INTEGER,
  format        TEXT,
  inputs        TEXT NOT NULL,
  client_id     TEXT NOT NULL,
  variation     TEXT NOT NULL,
  quoted_usd    TEXT NOT NULL,
  quote_exact   INTEGER NOT NULL,
  reserved_usd  TEXT NOT NULL,          -- what the budget holds back; 0 once it surely will not be charged
  charged_usd   TEXT,
  ticket        TEXT,
  poll_url      TEXT,
  created_at    DOUBLE PRECISION NOT NULL,
  submitted_at  DOUBLE PRECISION,
  deadline_at   DOUBLE PRECISION,
  finished_at   DOUBLE PRECISION,
  due_at        DOUBLE PRECISION NOT NULL,
  attempts      INTEGER NOT NULL DEFAULT 0,
  fault         TEXT,
  lease         TEXT,
  lease_until   DOUBLE PRECISION NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS predictions_by_job ON predictions (job_id, state);
CREATE INDEX IF NOT EXISTS predictions_due ON predictions (state, due_at);
CREATE INDEX IF NOT EXISTS predictions_after ON predictions (after_id);
CREATE INDEX IF NOT EXISTS predictions_by_spending ON predictions (COALESCE(submitted_at, created_at));

CREATE TABLE IF NOT EXISTS frames (
  job_id         TEXT NOT NULL,
  n              INTEGER NOT NULL,      -- place in the job, from 1
  prediction_id  TEXT NOT NULL,
  url            TEXT,
  url_expires_at DOUBLE PRECISION,
  sha256         TEXT,                  -- set once the image is home
  saved_path     TEXT,
  source         TEXT NOT NULL,
  error          TEXT,
  attempts       INTEGER NOT NULL DEFAULT 0,
  created_at     DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (job_id, n)
);
CREATE INDEX IF NOT EXISTS frames_by_image ON frames (sha256);
CREATE INDEX IF NOT EXISTS frames_by_prediction ON frames (prediction_id);
CREATE INDEX IF NOT EXISTS frames_by_time ON frames (created_at);
