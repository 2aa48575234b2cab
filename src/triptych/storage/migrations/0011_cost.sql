-- No look of the worker takes longer with more predictions or with more history: it reads the first entries of small
-- indexes, and counters and totals that triggers keep.

-- Whose budget a job counts against, beside its owner's and the installation's; null for none.
ALTER TABLE jobs ADD COLUMN budget_group TEXT;
CREATE INDEX jobs_by_status ON jobs (status, created_at);

-- The job's owner ('' for the person at the machine) and group, for the index and the totals.
ALTER TABLE predictions ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE predictions ADD COLUMN budget_group TEXT;
UPDATE predictions SET owner = COALESCE((SELECT owner FROM jobs WHERE jobs.id = job_id), '');
-- The account that it was claimed for to be submitted, an id made from the provider's name and a hash of the key. Null
-- before, and after a submit by an earlier version.
ALTER TABLE predictions ADD COLUMN account TEXT;

-- When the next step may begin: when it is due and nobody works on it. Null if the worker has no step to do.
ALTER TABLE predictions ADD COLUMN free_at DOUBLE PRECISION GENERATED ALWAYS AS (
  CASE WHEN state IN ('queued', 'submitting', 'running', 'fetching')
         OR (state = 'done' AND charged_usd IS NULL AND ticket IS NOT NULL AND attempts < 6)
    THEN CASE WHEN lease_until > due_at THEN lease_until ELSE due_at END END
) VIRTUAL;

DROP INDEX predictions_due;
DROP INDEX predictions_queued;
DROP INDEX predictions_unsettled;
CREATE INDEX predictions_by_state ON predictions (state, provider, submitted_at);
CREATE INDEX predictions_by_ticket ON predictions (provider, ticket) WHERE ticket IS NOT NULL;
-- The claims: what is due in each state at a provider, and the queue of each owner. The first entry is the most urgent one.
CREATE INDEX predictions_free ON predictions (provider, state, free_at) WHERE free_at IS NOT NULL;
CREATE INDEX predictions_queued ON predictions (provider, owner, free_at, created_at, lane, step) WHERE state = 'queued';
-- What a process works on: it is about to be submitted for an account, or a lease ends too far ahead.
CREATE INDEX predictions_taken ON predictions (account, lease_until) WHERE state = 'queued' AND lease IS NOT NULL;
CREATE INDEX predictions_leased_until ON predictions (lease_until) WHERE lease IS NOT NULL;

-- One key at one provider. All processes obey its row. Times are seconds of the monotonic clock.
CREATE TABLE accounts (
  account     TEXT PRIMARY KEY,
  provider    TEXT NOT NULL,
  running     INTEGER NOT NULL DEFAULT 0,          -- how many of its predictions are submitting or running
  hold_until  DOUBLE PRECISION NOT NULL DEFAULT 0, -- no submit is sent before
  quiet_until DOUBLE PRECISION NOT NULL DEFAULT 0, -- no poll is sent before
  next_sweep  DOUBLE PRECISION NOT NULL DEFAULT 0, -- when the provider's list is read next, by whoever takes it first
  sweeping    INTEGER NOT NULL DEFAULT 0           -- whether its list is read, so that single polls are rare
);

-- Whose turn it is at a provider: that of the owner that was served least recently and has something queued.
CREATE TABLE queues (
  provider TEXT NOT NULL,
  owner    TEXT NOT NULL,
  queued   INTEGER NOT NULL DEFAULT 0,
  served   INTEGER NOT NULL DEFAULT 0,             -- a number that grows with every submit at the provider
  PRIMARY KEY (provider, owner)
);
CREATE INDEX queues_by_turn ON queues (provider, served, owner) WHERE queued > 0;
CREATE INDEX queues_by_served ON queues (provider, served);
INSERT INTO queues (provider, owner, queued)
SELECT provider, owner, COUNT(*) FROM predictions WHERE state = 'queued' GROUP BY provider, owner;

-- The money of each prediction in each scope that it counts in: '' (the installation), 'owner:…' and 'group:…'. Money is
-- in 1e-9 US dollars, rounded up. What may still be sent or charged is in bucket 0; what has ended is in the bucket of
-- 10 minutes of its newest time.
CREATE VIEW prediction_money AS
SELECT id, scope,
  CASE WHEN is_open THEN 0 ELSE 1 + CAST(ended_at / 600 AS INTEGER) END AS bucket,
  COALESCE(CAST(CAST(charged_usd AS REAL) * 1000000000 + 0.999 AS INTEGER), 0) AS charged_nano,
  CASE WHEN charged_usd IS NULL THEN CAST(CAST(reserved_usd AS REAL) * 1000000000 + 0.999 AS INTEGER) ELSE 0 END AS reserved_nano,
  CASE WHEN is_open THEN 0 ELSE ended_at END AS newest_at,
  CASE WHEN NOT is_open THEN COALESCE(submitted_mono, created_mono) END AS newest_mono
FROM (
  SELECT predictions.*,
    CASE scopes.n WHEN 0 THEN '' WHEN 1 THEN 'owner:' || owner ELSE 'group:' || budget_group END AS scope,
    state IN ('waiting', 'queued', 'submitting', 'running', 'fetching') AS is_open,
    CASE WHEN finished_at > COALESCE(submitted_at, created_at) THEN finished_at
         ELSE COALESCE(submitted_at, created_at) END AS ended_at
  FROM predictions CROSS JOIN (SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2) AS scopes
) AS each WHERE scope IS NOT NULL;

CREATE TABLE money (
  scope         TEXT NOT NULL,
  bucket        INTEGER NOT NULL,
  charged_nano  INTEGER NOT NULL,
  reserved_nano INTEGER NOT NULL,
  newest_at     DOUBLE PRECISION NOT NULL,         -- of the predictions in it: the newest times by both clocks
  newest_mono   DOUBLE PRECISION,
  PRIMARY KEY (scope, bucket)
);
CREATE INDEX money_by_mono ON money (scope, newest_mono);
INSERT INTO money (scope, bucket, charged_nano, reserved_nano, newest_at, newest_mono)
SELECT scope, bucket, SUM(charged_nano), SUM(reserved_nano), MAX(newest_at), MAX(newest_mono)
FROM prediction_money GROUP BY scope, bucket;

CREATE TRIGGER money_added AFTER INSERT ON predictions BEGIN
  INSERT INTO money (scope, bucket, charged_nano, reserved_nano, newest_at, newest_mono)
  SELECT scope, bucket, charged_nano, reserved_nano, newest_at, newest_mono FROM prediction_money WHERE id = NEW.id
  ON CONFLICT (scope, bucket) DO UPDATE SET
    charged_nano = charged_nano + excluded.charged_nano, reserved_nano = reserved_nano + excluded.reserved_nano,
    newest_at = MAX(newest_at, excluded.newest_at),
    newest_mono = CASE WHEN newest_mono > excluded.newest_mono THEN newest_mono ELSE COALESCE(excluded.newest_mono, newest_mono) END;
END;
CREATE TRIGGER money_taken
BEFORE UPDATE OF state, reserved_usd, charged_usd, submitted_at, finished_at, owner, budget_group ON predictions
WHEN OLD.reserved_usd <> NEW.reserved_usd OR OLD.charged_usd IS NOT NEW.charged_usd
  OR OLD.owner <> NEW.owner OR OLD.budget_group IS NOT NEW.budget_group
  OR ((OLD.state NOT IN ('waiting', 'queued', 'submitting', 'running', 'fetching')
       OR NEW.state NOT IN ('waiting', 'queued', 'submitting', 'running', 'fetching'))
      AND (OLD.state <> NEW.state OR OLD.submitted_at IS NOT NEW.submitted_at OR OLD.finished_at IS NOT NEW.finished_at))
BEGIN
  UPDATE money SET charged_nano = money.charged_nano - each.charged_nano, reserved_nano = money.reserved_nano - each.reserved_nano
  FROM (SELECT * FROM prediction_money WHERE id = OLD.id) AS each
  WHERE money.scope = each.scope AND money.bucket = each.bucket;
END;
CREATE TRIGGER money_put
AFTER UPDATE OF state, reserved_usd, charged_usd, submitted_at, finished_at, owner, budget_group ON predictions
WHEN OLD.reserved_usd <> NEW.reserved_usd OR OLD.charged_usd IS NOT NEW.charged_usd
  OR OLD.owner <> NEW.owner OR OLD.budget_group IS NOT NEW.budget_group
  OR ((OLD.state NOT IN ('waiting', 'queued', 'submitting', 'running', 'fetching')
       OR NEW.state NOT IN ('waiting', 'queued', 'submitting', 'running', 'fetching'))
      AND (OLD.state <> NEW.state OR OLD.submitted_at IS NOT NEW.submitted_at OR OLD.finished_at IS NOT NEW.finished_at))
BEGIN
  INSERT INTO money (scope, bucket, charged_nano, reserved_nano, newest_at, newest_mono)
  SELECT scope, bucket, charged_nano, reserved_nano, newest_at, newest_mono FROM prediction_money WHERE id = NEW.id
  ON CONFLICT (scope, bucket) DO UPDATE SET
    charged_nano = charged_nano + excluded.charged_nano, reserved_nano = reserved_nano + excluded.reserved_nano,
    newest_at = MAX(newest_at, excluded.newest_at),
    newest_mono = CASE WHEN newest_mono > excluded.newest_mono THEN newest_mono ELSE COALESCE(excluded.newest_mono, newest_mono) END;
END;

CREATE TRIGGER queue_added AFTER INSERT ON predictions WHEN NEW.state = 'queued' BEGIN
  INSERT INTO queues (provider, owner, queued) VALUES (NEW.provider, NEW.owner, 1)
  ON CONFLICT (provider, owner) DO UPDATE SET queued = queued + 1;
END;
CREATE TRIGGER queue_left AFTER UPDATE OF state, provider, owner ON predictions
WHEN OLD.state = 'queued' AND (NEW.state <> 'queued' OR OLD.provider <> NEW.provider OR OLD.owner <> NEW.owner) BEGIN
  UPDATE queues SET queued = queued - 1 WHERE provider = OLD.provider AND owner = OLD.owner;
END;
CREATE TRIGGER queue_joined AFTER UPDATE OF state, provider, owner ON predictions
WHEN NEW.state = 'queued' AND (OLD.state <> 'queued' OR OLD.provider <> NEW.provider OR OLD.owner <> NEW.owner) BEGIN
  INSERT INTO queues (provider, owner, queued) VALUES (NEW.provider, NEW.owner, 1)
  ON CONFLICT (provider, owner) DO UPDATE SET queued = queued + 1;
END;

CREATE TRIGGER account_left AFTER UPDATE OF state, account ON predictions
WHEN OLD.state IN ('submitting', 'running')
  AND (NEW.state NOT IN ('submitting', 'running') OR OLD.account IS NOT NEW.account) BEGIN
  UPDATE accounts SET running = running - 1 WHERE account = OLD.account;
END;
CREATE TRIGGER account_joined AFTER UPDATE OF state, account ON predictions
WHEN NEW.state IN ('submitting', 'running') AND NEW.account IS NOT NULL
  AND (OLD.state NOT IN ('submitting', 'running') OR OLD.account IS NOT NEW.account) BEGIN
  INSERT INTO accounts (account, provider, running) VALUES (NEW.account, NEW.provider, 1)
  ON CONFLICT (account) DO UPDATE SET running = running + 1;
END;

-- -1: the images and the manifest are to be copied. -2: the same, once the job has ended.
UPDATE saves SET saved = CASE
  WHEN (SELECT status FROM jobs WHERE jobs.id = job_id) IN ('queued', 'running') THEN -2
  WHEN saved < (SELECT returned FROM jobs WHERE jobs.id = job_id) THEN -1
  ELSE saved END;
CREATE INDEX saves_open ON saves (job_id, directory) WHERE saved = -1;
