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

-- name: busy
SELECT provider, COUNT(*) AS running FROM predictions
WHERE state IN ('submitting', 'running') OR (state = 'queued' AND lease IS NOT NULL AND lease_until > :now)
GROUP BY provider;

-- name: claim
UPDATE predictions SET lease = :lease, lease_until = :until
WHERE id = (
  SELECT id FROM predictions
  WHERE (state IN ('submitting', 'running', 'fetching')
         OR (state = 'queued' AND provider IN (SELECT json_array_elements_text(:free::json)))
         OR (state = 'done' AND charged_usd IS NULL AND ticket IS NOT NULL
             AND attempts IN (SELECT json_array_elements_text(:tries::json)::bigint)))
    AND (due_at <= :now OR due_at > :now + :most_wait_s)
    AND (lease_until <= :now OR lease_until > :now + :most_lease_s)
    AND provider IN (:providers) AND id NOT IN (:held)
  ORDER BY CASE state WHEN 'queued' THEN 1 ELSE 0 END, due_at, created_at, lane, step
  LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING *;

-- name: next_due
SELECT MIN(GREATEST(CASE WHEN due_at > :now + :most_wait_s THEN 0 ELSE due_at END,
                    CASE WHEN lease_until > :now + :most_lease_s THEN 0 ELSE lease_until END)) AS due
FROM predictions
WHERE (state IN ('submitting', 'running', 'fetching')
       OR (state = 'queued' AND provider IN (SELECT json_array_elements_text(:free::json)))
       OR (state = 'done' AND charged_usd IS NULL AND ticket IS NOT NULL
           AND attempts IN (SELECT json_array_elements_text(:tries::json)::bigint)))
  AND provider IN (:providers) AND id NOT IN (:held);

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
