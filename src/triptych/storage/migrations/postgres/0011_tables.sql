-- The tables of version 11, as SQLite's migrations 1 to 11 leave them. Times are seconds, money is decimal text, lists
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
  sources          TEXT,
  budget_group     TEXT
);
CREATE INDEX jobs_by_time ON jobs (created_at);
CREATE INDEX jobs_by_status ON jobs (status, created_at);
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
  lease_until        DOUBLE PRECISION NOT NULL DEFAULT 0,
  owner              TEXT NOT NULL DEFAULT '',
  budget_group       TEXT,
  account            TEXT,
  free_at            DOUBLE PRECISION GENERATED ALWAYS AS (
    CASE WHEN state IN ('queued', 'submitting', 'running', 'fetching')
           OR (state = 'done' AND charged_usd IS NULL AND ticket IS NOT NULL AND attempts < 6)
      THEN CASE WHEN lease_until > due_at THEN lease_until ELSE due_at END END
  ) STORED
);
CREATE INDEX predictions_by_job ON predictions (job_id, state);
CREATE INDEX predictions_after ON predictions (after_id);
CREATE INDEX predictions_by_spending ON predictions (COALESCE(submitted_at, created_at));
CREATE INDEX predictions_leased ON predictions (lease) WHERE lease IS NOT NULL;
CREATE INDEX predictions_by_state ON predictions (state, provider, submitted_at);
CREATE INDEX predictions_by_ticket ON predictions (provider, ticket) WHERE ticket IS NOT NULL;
CREATE INDEX predictions_free ON predictions (provider, state, free_at) WHERE free_at IS NOT NULL;
CREATE INDEX predictions_queued ON predictions (provider, owner, free_at, created_at, lane, step) WHERE state = 'queued';
CREATE INDEX predictions_taken ON predictions (account, lease_until) WHERE state = 'queued' AND lease IS NOT NULL;
CREATE INDEX predictions_leased_until ON predictions (lease_until) WHERE lease IS NOT NULL;

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
CREATE INDEX saves_open ON saves (job_id, directory) WHERE saved = -1;

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

-- One key at one provider. All processes obey its row.
CREATE TABLE accounts (
  account     TEXT PRIMARY KEY,
  provider    TEXT NOT NULL,
  running     BIGINT NOT NULL DEFAULT 0,
  hold_until  DOUBLE PRECISION NOT NULL DEFAULT 0,
  quiet_until DOUBLE PRECISION NOT NULL DEFAULT 0,
  next_sweep  DOUBLE PRECISION NOT NULL DEFAULT 0,
  sweeping    BIGINT NOT NULL DEFAULT 0
);

-- Whose turn it is at a provider.
CREATE TABLE queues (
  provider TEXT NOT NULL,
  owner    TEXT NOT NULL,
  queued   BIGINT NOT NULL DEFAULT 0,
  served   BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (provider, owner)
);
CREATE INDEX queues_by_turn ON queues (provider, served, owner) WHERE queued > 0;
CREATE INDEX queues_by_served ON queues (provider, served);

-- The money of predictions by scope and time, in 1e-9 US dollars.
CREATE TABLE money (
  scope         TEXT NOT NULL,
  bucket        BIGINT NOT NULL,
  charged_nano  BIGINT NOT NULL,
  reserved_nano BIGINT NOT NULL,
  newest_at     DOUBLE PRECISION NOT NULL,
  newest_mono   DOUBLE PRECISION,
  PRIMARY KEY (scope, bucket)
);
CREATE INDEX money_by_mono ON money (scope, newest_mono);

CREATE FUNCTION is_open(state TEXT) RETURNS BOOLEAN LANGUAGE sql IMMUTABLE AS $$
  SELECT state IN ('waiting', 'queued', 'submitting', 'running', 'fetching')
$$;

-- The money of a prediction in each scope that it counts in.
CREATE FUNCTION money_of(p predictions) RETURNS TABLE (
  scope TEXT, bucket BIGINT, charged_nano BIGINT, reserved_nano BIGINT, newest_at DOUBLE PRECISION,
  newest_mono DOUBLE PRECISION
) LANGUAGE sql IMMUTABLE AS $$
  SELECT each.scope,
    CASE WHEN is_open(p.state) THEN 0 ELSE 1 + floor(ended.at / 600)::bigint END,
    COALESCE(ceil(p.charged_usd::numeric * 1000000000)::bigint, 0),
    CASE WHEN p.charged_usd IS NULL THEN ceil(p.reserved_usd::numeric * 1000000000)::bigint ELSE 0 END,
    CASE WHEN is_open(p.state) THEN 0 ELSE ended.at END,
    CASE WHEN NOT is_open(p.state) THEN COALESCE(p.submitted_mono, p.created_mono) END
  FROM (VALUES (''), ('owner:' || p.owner), ('group:' || p.budget_group)) AS each (scope),
    LATERAL (SELECT GREATEST(p.finished_at, COALESCE(p.submitted_at, p.created_at)) AS at) AS ended
  WHERE each.scope IS NOT NULL
$$;

CREATE VIEW prediction_money AS
SELECT p.id, m.* FROM predictions p CROSS JOIN LATERAL money_of(p) AS m;

-- Keeps accounts, money and queues as the predictions are. Each statement locks the rows in this order, the money by its
-- key: so two transactions that wait for each other's rows are rare.
CREATE FUNCTION count_prediction() RETURNS TRIGGER LANGUAGE plpgsql AS $$
DECLARE
  was_running BOOLEAN := OLD.state IN ('submitting', 'running');
  now_running BOOLEAN := NEW.state IN ('submitting', 'running');
  same_account BOOLEAN := OLD.account IS NOT DISTINCT FROM NEW.account;
  same_queue BOOLEAN := OLD.provider = NEW.provider AND OLD.owner = NEW.owner
    AND (OLD.state = 'queued') = (NEW.state = 'queued');
  same_money BOOLEAN := OLD.reserved_usd = NEW.reserved_usd AND OLD.charged_usd IS NOT DISTINCT FROM NEW.charged_usd
    AND OLD.owner = NEW.owner AND OLD.budget_group IS NOT DISTINCT FROM NEW.budget_group
    AND ((is_open(OLD.state) AND is_open(NEW.state))
         OR (OLD.state = NEW.state AND OLD.submitted_at IS NOT DISTINCT FROM NEW.submitted_at
             AND OLD.finished_at IS NOT DISTINCT FROM NEW.finished_at));
BEGIN
  IF was_running AND NOT (now_running AND same_account) THEN
    UPDATE accounts SET running = running - 1 WHERE account = OLD.account;
  END IF;
  IF now_running AND NEW.account IS NOT NULL AND NOT (was_running AND same_account) THEN
    INSERT INTO accounts (account, provider, running) VALUES (NEW.account, NEW.provider, 1)
    ON CONFLICT (account) DO UPDATE SET running = accounts.running + 1;
  END IF;
  IF NOT same_money THEN
    INSERT INTO money (scope, bucket, charged_nano, reserved_nano, newest_at, newest_mono)
    SELECT scope, bucket, SUM(charged_nano), SUM(reserved_nano), MAX(newest_at), MAX(newest_mono) FROM (
      SELECT * FROM money_of(NEW)
      UNION ALL
      SELECT m.scope, m.bucket, -m.charged_nano, -m.reserved_nano, 0, NULL FROM money_of(OLD) AS m
    ) AS change
    GROUP BY scope, bucket
    HAVING SUM(charged_nano) <> 0 OR SUM(reserved_nano) <> 0 OR MAX(newest_at) > 0
    ORDER BY scope, bucket
    ON CONFLICT (scope, bucket) DO UPDATE SET
      charged_nano = money.charged_nano + excluded.charged_nano,
      reserved_nano = money.reserved_nano + excluded.reserved_nano,
      newest_at = GREATEST(money.newest_at, excluded.newest_at),
      newest_mono = GREATEST(money.newest_mono, excluded.newest_mono);
  END IF;
  IF OLD.state = 'queued' AND NOT same_queue THEN
    UPDATE queues SET queued = queued - 1 WHERE provider = OLD.provider AND owner = OLD.owner;
  END IF;
  IF NEW.state = 'queued' AND NOT same_queue THEN
    INSERT INTO queues (provider, owner, queued) VALUES (NEW.provider, NEW.owner, 1)
    ON CONFLICT (provider, owner) DO UPDATE SET queued = queues.queued + 1;
  END IF;
  RETURN NULL;
END $$;
-- For an INSERT of many rows, such as those of a job: each counter changes once.
CREATE FUNCTION count_new_predictions() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO money (scope, bucket, charged_nano, reserved_nano, newest_at, newest_mono)
  SELECT m.scope, m.bucket, SUM(m.charged_nano), SUM(m.reserved_nano), MAX(m.newest_at), MAX(m.newest_mono)
  FROM added JOIN predictions AS p ON p.id = added.id CROSS JOIN LATERAL money_of(p) AS m
  GROUP BY m.scope, m.bucket ORDER BY m.scope, m.bucket
  ON CONFLICT (scope, bucket) DO UPDATE SET
    charged_nano = money.charged_nano + excluded.charged_nano,
    reserved_nano = money.reserved_nano + excluded.reserved_nano,
    newest_at = GREATEST(money.newest_at, excluded.newest_at),
    newest_mono = GREATEST(money.newest_mono, excluded.newest_mono);
  INSERT INTO queues (provider, owner, queued)
  SELECT provider, owner, COUNT(*) FROM added WHERE state = 'queued' GROUP BY provider, owner ORDER BY provider, owner
  ON CONFLICT (provider, owner) DO UPDATE SET queued = queues.queued + excluded.queued;
  RETURN NULL;
END $$;
CREATE TRIGGER prediction_added AFTER INSERT ON predictions REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION count_new_predictions();
CREATE TRIGGER prediction_changed
AFTER UPDATE OF state, provider, owner, budget_group, account, reserved_usd, charged_usd, submitted_at, finished_at
ON predictions FOR EACH ROW
WHEN (OLD.state <> NEW.state OR OLD.provider <> NEW.provider OR OLD.owner <> NEW.owner
  OR OLD.budget_group IS DISTINCT FROM NEW.budget_group OR OLD.account IS DISTINCT FROM NEW.account
  OR OLD.reserved_usd <> NEW.reserved_usd OR OLD.charged_usd IS DISTINCT FROM NEW.charged_usd
  OR OLD.submitted_at IS DISTINCT FROM NEW.submitted_at OR OLD.finished_at IS DISTINCT FROM NEW.finished_at)
EXECUTE FUNCTION count_prediction();
