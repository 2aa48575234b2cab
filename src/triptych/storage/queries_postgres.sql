-- The statements that PostgreSQL needs differently, under the names of `queries.sql`.

-- name: same_retry
SELECT id FROM jobs
WHERE substring(request from '"retry_of":"([^"\\]*)"}$') = :retry_of
  AND (status IN ('queued', 'running', 'uncertain')
       OR (status IN ('done', 'partial')
           AND (:now - ended_at < :keep_s
                OR CASE WHEN :mono >= ended_mono THEN :mono - ended_mono ELSE :mono END < :keep_s)))
ORDER BY created_at DESC;

-- name: made_again
SELECT id FROM jobs
WHERE substring(request from '"retry_of":"([^"\\]*)"}$') = :id AND status NOT IN ('failed', 'cancelled')
ORDER BY created_at DESC LIMIT 1;

-- name: lock_job
SELECT id FROM jobs WHERE id = :id FOR UPDATE;

-- name: lock_predictions
SELECT id FROM predictions WHERE job_id = :job_id ORDER BY id FOR UPDATE;

-- name: lease_of
SELECT state, lease, reserved_usd, lease_until, fault, ticket, submitted_at FROM predictions WHERE id = :id FOR UPDATE;

-- name: lock_account
SELECT running, hold_until FROM accounts WHERE account = :account FOR UPDATE;

-- name: due
-- Two processes that look at the same time get different ones.
SELECT id, free_at FROM predictions
WHERE provider = :provider AND state = :state AND free_at <= :now AND id NOT IN (:held)
ORDER BY free_at LIMIT :most FOR UPDATE SKIP LOCKED;

-- name: take
UPDATE predictions SET lease = :lease || id, lease_until = :until,
  account = CASE WHEN state = 'queued' THEN :account ELSE account END
WHERE id IN (SELECT id FROM predictions WHERE id IN (:ids) AND free_at <= :now FOR UPDATE SKIP LOCKED)
RETURNING *;

-- name: heartbeat
-- A row that another transaction changes is left out, instead of waiting for rows in another order than it does.
UPDATE predictions SET lease_until = :until
WHERE id IN (SELECT id FROM predictions WHERE lease IN (:leases) FOR UPDATE SKIP LOCKED);

-- name: poll_now
UPDATE predictions SET due_at = 0 WHERE id IN (
  SELECT id FROM predictions WHERE provider = :provider AND state = 'running' AND ticket IN (:tickets)
  FOR UPDATE SKIP LOCKED
);

-- name: lock_counts
LOCK TABLE predictions IN EXCLUSIVE MODE;

-- name: states
SELECT state FROM (VALUES ('waiting'), ('queued'), ('submitting'), ('running'), ('fetching'), ('done'), ('failed'),
  ('cancelled'), ('uncertain')) AS known (state)
WHERE EXISTS (SELECT 1 FROM predictions p WHERE p.job_id = :job_id AND p.state = known.state);

-- name: saved_among
SELECT path FROM saved_files WHERE path IN (SELECT json_array_elements_text(:paths::json));

-- name: job_times
SELECT jobs.created_at AS made_at, GREATEST(jobs.created_at, MAX(submitted_at), MAX(finished_at)) AS moved_at
FROM jobs LEFT JOIN predictions ON job_id = jobs.id WHERE jobs.id = :job_id GROUP BY jobs.id;

-- name: job_ages
SELECT jobs.id, jobs.status, GREATEST(jobs.created_at, MAX(submitted_at), MAX(finished_at)) AS last_at
FROM jobs LEFT JOIN predictions ON job_id = jobs.id GROUP BY jobs.id;

-- name: boot
-- The server's clock goes on after a restart.
SELECT '' AS id;
