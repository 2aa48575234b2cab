-- The reads of a thin start. `providers` is a JSON list of those that this process can use.
-- Each question is a few searches in an index for each provider, however many predictions there are.

-- name: unfinished
SELECT 1 FROM json_each(:providers) AS one WHERE EXISTS (
  SELECT 1 FROM predictions INDEXED BY predictions_free
  WHERE provider = one.value AND state IN ('queued', 'submitting', 'running', 'fetching', 'done') AND free_at IS NOT NULL
)
UNION ALL SELECT 1 WHERE EXISTS (SELECT 1 FROM saves WHERE saved = -1)
LIMIT 1;

-- name: overdue
-- A step that is due since `now`, or due further ahead than any is, and that no process takes. Queued predictions may wait
-- long for their account while others of their provider are worked on.
SELECT 1 FROM json_each(:providers) AS one WHERE EXISTS (
  SELECT 1 FROM predictions INDEXED BY predictions_free
  WHERE provider = one.value AND state IN ('submitting', 'running', 'fetching', 'done') AND free_at <= :now
) OR EXISTS (
  SELECT 1 FROM predictions INDEXED BY predictions_free
  WHERE provider = one.value AND state IN ('queued', 'submitting', 'running', 'fetching', 'done') AND free_at > :too_far
) OR (EXISTS (
  SELECT 1 FROM predictions INDEXED BY predictions_free
  WHERE provider = one.value AND state = 'queued' AND free_at <= :now
) AND NOT EXISTS (
  SELECT 1 FROM predictions INDEXED BY predictions_free
  WHERE provider = one.value AND state IN ('submitting', 'running', 'fetching') AND free_at IS NOT NULL
))
UNION ALL SELECT 1 WHERE EXISTS (SELECT 1 FROM saves WHERE saved = -1)
LIMIT 1;
