-- What a thin start asks about the database, read-only. `providers` is a JSON list of those that this process can use.

-- name: unfinished
SELECT 1 WHERE EXISTS (SELECT 1 FROM saves WHERE saved = -1) OR EXISTS (
  SELECT 1 FROM json_each(:providers) AS one JOIN predictions ON predictions.provider = one.value
  WHERE state IN ('queued', 'submitting', 'running', 'fetching', 'done') AND free_at IS NOT NULL
);

-- name: overdue
-- A step that is due since `now`, or due further ahead than any is, and that no process takes. Queued predictions may wait
-- long for their account while others of their provider are worked on.
SELECT 1 WHERE EXISTS (SELECT 1 FROM saves WHERE saved = -1) OR EXISTS (
  SELECT 1 FROM json_each(:providers) AS one JOIN predictions ON predictions.provider = one.value
  WHERE (state IN ('submitting', 'running', 'fetching', 'done') AND (free_at <= :now OR free_at > :too_far))
     OR (state = 'queued' AND (free_at <= :now OR free_at > :too_far) AND NOT EXISTS (
       SELECT 1 FROM predictions AS other WHERE other.provider = one.value
         AND other.state IN ('submitting', 'running', 'fetching') AND other.free_at IS NOT NULL))
);
