-- Every statement of this package, by name. A parameter that is given a list stands for its items, comma-separated.

-- name: add_image
INSERT INTO images (sha256, handle, mime_type, width, height, bytes, file, created_at)
VALUES (:sha256, :handle, :mime_type, :width, :height, :bytes, :file, :now)
ON CONFLICT (sha256) DO NOTHING;

-- name: image_by_sha256
SELECT * FROM images WHERE sha256 = :sha256;

-- name: image_by_handle
SELECT * FROM images WHERE handle = :handle;

-- name: hold
INSERT INTO holders (sha256, owner) VALUES (:sha256, :owner) ON CONFLICT (sha256, owner) DO NOTHING;

-- name: holds
SELECT 1 FROM holders WHERE sha256 = :sha256 AND owner = :owner
UNION ALL
SELECT 1 FROM frames JOIN jobs ON jobs.id = frames.job_id WHERE frames.sha256 = :sha256 AND jobs.owner = :owner
LIMIT 1;

-- name: file_secret
SELECT secret FROM file_secret;

-- name: add_file_secret
INSERT INTO file_secret (one, secret) VALUES (1, :secret) ON CONFLICT (one) DO NOTHING;

-- name: set_file_secret
INSERT INTO file_secret (one, secret) VALUES (1, :secret) ON CONFLICT (one) DO UPDATE SET secret = excluded.secret;

-- name: recent_uploads
SELECT * FROM images WHERE NOT EXISTS (SELECT 1 FROM frames WHERE frames.sha256 = images.sha256)
  AND pruned_at IS NULL AND (:owner IS NULL OR EXISTS (SELECT 1 FROM holders WHERE holders.sha256 = images.sha256 AND owner = :owner))
ORDER BY created_at DESC, handle LIMIT :limit;

-- name: set_copy
INSERT INTO copies (sha256, provider, url, expires_at) VALUES (:sha256, :provider, :url, :expires_at)
ON CONFLICT (sha256, provider) DO UPDATE SET url = excluded.url, expires_at = excluded.expires_at;

-- name: copy
SELECT url, expires_at FROM copies WHERE sha256 = :sha256 AND provider = :provider AND expires_at > :now;

-- name: forget_copies
DELETE FROM copies WHERE provider = :provider AND url IN (:urls);

-- name: uploads
-- A copy that is the URL of an output was not uploaded.
SELECT sha256, url, expires_at FROM copies WHERE provider = :provider AND expires_at > :now
  AND NOT EXISTS (SELECT 1 FROM frames WHERE frames.sha256 = copies.sha256 AND frames.url = copies.url)
ORDER BY expires_at, url;

-- name: add_job
INSERT INTO jobs (id, request, created_at, fingerprint, provider, model, endpoint, save_to, warnings, routes, owner,
                  cancel_requested, status, returned, page_size, live_offer, sources, budget_group)
VALUES (:id, :request, :created_at, :fingerprint, :provider, :model, :endpoint, :save_to, :warnings, :routes, :owner,
        :cancel_requested, :status, :returned, :page_size, :live_offer, :sources, :budget_group);

-- name: job_added
SELECT fingerprint, owner, created_at FROM jobs WHERE id = :id;

-- name: add_prediction
INSERT INTO predictions (id, job_id, lane, step, after_id, first_output, state, provider, endpoint, operation, size,
                         client_id, variation, quoted_usd, quote_exact, reserved_usd, created_at, created_mono, due_at, owner,
                         budget_group)
VALUES (:id, :job_id, :lane, :step, :after_id, :first_output, :state, :provider, :endpoint, :operation, :size,
        :client_id, :variation, :quoted_usd, :quote_exact, :quoted_usd, :created_at, :created_mono, :due_at, :owner,
        :budget_group);

-- name: same_request
-- An hour is over when it is over by both clocks. The monotonic clock is never fast: it may stop while the machine
-- sleeps, and it starts again at a restart. So a jump of the wall clock ends no hour early.
SELECT id FROM jobs
WHERE fingerprint = :fingerprint
  AND (status IN ('queued', 'running', 'uncertain')
       OR (status IN ('done', 'partial')
           AND (:now - ended_at < :keep_s
                OR CASE WHEN :mono >= ended_mono THEN :mono - ended_mono ELSE :mono END < :keep_s)))
ORDER BY created_at DESC LIMIT 1;

-- name: same_retry
SELECT id FROM jobs
WHERE json_extract(request, '$.retry_of') = :retry_of
  AND (status IN ('queued', 'running', 'uncertain')
       OR (status IN ('done', 'partial')
           AND (:now - ended_at < :keep_s
                OR CASE WHEN :mono >= ended_mono THEN :mono - ended_mono ELSE :mono END < :keep_s)))
ORDER BY created_at DESC;

-- name: made_again
SELECT id FROM jobs WHERE json_extract(request, '$.retry_of') = :id AND status NOT IN ('failed', 'cancelled')
ORDER BY created_at DESC LIMIT 1;

-- name: money_since
-- The machine may sleep between a submit and its acceptance. The time of acceptance is unknown, but before the end.
SELECT reserved_usd, charged_usd FROM predictions
WHERE (COALESCE(submitted_at, created_at) > :since OR COALESCE(submitted_mono, created_mono) > :since_mono
       OR finished_at > :since
       OR state IN ('waiting', 'queued', 'submitting', 'running', 'fetching'))
  AND (reserved_usd <> '0' OR charged_usd IS NOT NULL);

-- name: money_totals
-- A bucket counts as long as its newest prediction does.
SELECT COALESCE(SUM(charged_nano), 0) AS charged_nano, COALESCE(SUM(reserved_nano), 0) AS reserved_nano FROM (
  SELECT charged_nano, reserved_nano FROM money WHERE scope = :scope AND bucket = 0
  UNION ALL
  SELECT charged_nano, reserved_nano FROM money
  WHERE scope = :scope AND bucket > 0 AND bucket >= :since_bucket AND newest_at > :since
  UNION ALL
  SELECT charged_nano, reserved_nano FROM money
  WHERE scope = :scope AND newest_mono > :since_mono AND bucket > 0 AND newest_at <= :since
) AS counted;

-- name: money_differences
SELECT scope, bucket, SUM(charged_nano) AS charged_nano, SUM(reserved_nano) AS reserved_nano FROM (
  SELECT scope, bucket, charged_nano, reserved_nano FROM money
  UNION ALL
  SELECT scope, bucket, -charged_nano, -reserved_nano FROM prediction_money
) AS both_sides
GROUP BY scope, bucket HAVING SUM(charged_nano) <> 0 OR SUM(reserved_nano) <> 0 ORDER BY scope, bucket;

-- name: account_differences
SELECT * FROM (
  SELECT account AS name, 'running' AS counted, running - (
    SELECT COUNT(*) FROM predictions AS p WHERE p.account = accounts.account AND p.state IN ('submitting', 'running')
  ) AS more FROM accounts
) AS counts WHERE more <> 0 ORDER BY name;

-- name: queue_differences
SELECT * FROM (
  SELECT CASE owner WHEN '' THEN 'nobody' ELSE owner END || ' at ' || provider AS name, 'queued' AS counted, queued - (
    SELECT COUNT(*) FROM predictions AS p
    WHERE p.provider = queues.provider AND p.owner = queues.owner AND p.state = 'queued'
  ) AS more FROM queues
) AS counts WHERE more <> 0 ORDER BY name;

-- name: lock_counts
-- No prediction changes until they are counted.
SELECT 1;

-- name: clear_money
DELETE FROM money;

-- name: count_money
INSERT INTO money (scope, bucket, charged_nano, reserved_nano, newest_at, newest_mono)
SELECT scope, bucket, SUM(charged_nano), SUM(reserved_nano), MAX(newest_at), MAX(newest_mono)
FROM prediction_money GROUP BY scope, bucket;

-- name: count_accounts
UPDATE accounts SET running = (
  SELECT COUNT(*) FROM predictions AS p WHERE p.account = accounts.account AND p.state IN ('submitting', 'running'));

-- name: clear_queues
UPDATE queues SET queued = 0;

-- name: count_queues
INSERT INTO queues (provider, owner, queued)
SELECT provider, owner, COUNT(*) FROM predictions WHERE state = 'queued' GROUP BY provider, owner
ON CONFLICT (provider, owner) DO UPDATE SET queued = excluded.queued;

-- name: forget_monotonic_accounts
UPDATE accounts SET hold_until = 0, quiet_until = 0, next_sweep = 0;

-- name: forget_monotonic_money
UPDATE money SET newest_mono = CASE WHEN newest_at > :now - 172800 THEN :mono - (:now - newest_at) END WHERE bucket > 0;

-- name: spending
SELECT COALESCE(p.submitted_at, p.created_at) AS at, p.job_id, p.provider, j.model, p.quoted_usd, p.charged_usd, p.charge_is_estimate,
       p.reserved_usd, (SELECT COUNT(f.sha256) FROM frames f WHERE f.prediction_id = p.id) AS images
FROM predictions p JOIN jobs j ON j.id = p.job_id
WHERE COALESCE(p.submitted_at, p.created_at) >= :since AND (:owner IS NULL OR j.owner = :owner)
ORDER BY at DESC, p.id;

-- name: job
SELECT id, created_at, fingerprint, provider, model, endpoint, save_to, warnings, routes, owner, budget_group, cancel_requested,
  status, page_size, (SELECT COUNT(*) FROM frames WHERE frames.job_id = jobs.id AND sha256 IS NOT NULL) AS returned, EXISTS (
  SELECT 1 FROM predictions p WHERE p.job_id = jobs.id AND p.charged_usd IS NULL
    AND (p.reserved_usd <> '0' OR p.state NOT IN ('failed', 'cancelled'))
) AS may_be_charged
FROM jobs WHERE id = :id;

-- name: jobs
SELECT id, created_at, fingerprint, provider, model, endpoint, save_to, warnings, routes, owner, budget_group, cancel_requested,
  status, page_size, (SELECT COUNT(*) FROM frames WHERE frames.job_id = jobs.id AND sha256 IS NOT NULL) AS returned, EXISTS (
  SELECT 1 FROM predictions p WHERE p.job_id = jobs.id AND p.charged_usd IS NULL
    AND (p.reserved_usd <> '0' OR p.state NOT IN ('failed', 'cancelled'))
) AS may_be_charged
FROM jobs WHERE (:status IS NULL OR status = :status) AND (:owner IS NULL OR owner = :owner)
ORDER BY created_at DESC, id LIMIT :limit;

-- name: faulty
SELECT * FROM predictions WHERE job_id = :job_id AND fault IS NOT NULL ORDER BY lane, step;

-- name: costs
SELECT COUNT(*) AS count, quoted_usd, charged_usd, charge_is_estimate FROM predictions WHERE job_id = :job_id
GROUP BY quoted_usd, charged_usd, charge_is_estimate;

-- name: predictions
SELECT * FROM predictions
WHERE job_id = :job_id ORDER BY lane, step;

-- name: prediction
SELECT * FROM predictions WHERE id = :id;

-- name: frames
SELECT * FROM frames WHERE job_id = :job_id ORDER BY n;

-- name: frames_of
SELECT * FROM frames WHERE prediction_id = :prediction_id ORDER BY n;

-- name: frame
SELECT * FROM frames WHERE job_id = :job_id AND n = :n;

-- name: frames_made_from
SELECT frames.* FROM frames JOIN jobs ON jobs.id = frames.job_id JOIN images ON images.sha256 = frames.sha256
WHERE images.pruned_at IS NULL AND frames.source LIKE :holding AND (:owner IS NULL OR jobs.owner = :owner)
ORDER BY frames.created_at, frames.job_id, frames.n;

-- name: recent_images
SELECT frames.job_id, frames.n, images.width, images.height, frames.source
FROM frames JOIN jobs ON jobs.id = frames.job_id JOIN images ON images.sha256 = frames.sha256
WHERE images.pruned_at IS NULL AND (:owner IS NULL OR jobs.owner = :owner)
ORDER BY frames.created_at DESC, frames.job_id, frames.n LIMIT :limit;

-- name: recent_frames
SELECT frames.* FROM frames JOIN jobs ON jobs.id = frames.job_id JOIN images ON images.sha256 = frames.sha256
WHERE images.pruned_at IS NULL AND (:owner IS NULL OR jobs.owner = :owner)
ORDER BY frames.created_at DESC, frames.job_id, frames.n LIMIT :limit;

-- name: look
-- For each account and each state with a next step: when the first prediction is free, and the last. Each is one look into
-- `predictions_free`, whatever is there.
SELECT accounts.*, steps.state,
  (SELECT free_at FROM predictions AS p
   WHERE p.provider = accounts.provider AND p.state = steps.state AND p.free_at IS NOT NULL AND p.id NOT IN (:held)
   ORDER BY p.free_at LIMIT 1) AS first_at,
  (SELECT free_at FROM predictions AS p
   WHERE p.provider = accounts.provider AND p.state = steps.state AND p.free_at IS NOT NULL
   ORDER BY p.free_at DESC LIMIT 1) AS last_at,
  CASE WHEN steps.state = 'queued' THEN (
    SELECT COUNT(*) FROM predictions AS p
    WHERE p.account = accounts.account AND p.state = 'queued' AND p.lease IS NOT NULL AND p.lease_until > :now
  ) ELSE 0 END AS taken,
  (SELECT p.lease_until FROM predictions AS p WHERE p.lease IS NOT NULL AND p.lease_until > :too_far
   ORDER BY p.lease_until DESC LIMIT 1) IS NOT NULL AS damaged -- by the index also without statistics
FROM accounts CROSS JOIN (
  SELECT 'submitting' AS state UNION ALL SELECT 'running' UNION ALL SELECT 'fetching' UNION ALL SELECT 'done'
  UNION ALL SELECT 'queued'
) AS steps
WHERE accounts.account IN (:accounts);

-- name: add_account
INSERT INTO accounts (account, provider) VALUES (:account, :provider) ON CONFLICT (account) DO NOTHING;

-- name: adopt
-- What an earlier version has sent counts against the first account of its provider.
UPDATE predictions SET account = :account
WHERE state IN ('submitting', 'running') AND provider = :provider AND account IS NULL;

-- name: mend_due
UPDATE predictions SET due_at = 0
WHERE provider IN (:providers) AND state IN ('submitting', 'running', 'fetching', 'done', 'queued') AND free_at > :too_far
  AND due_at > :too_far;

-- name: mend_leases
UPDATE predictions SET lease_until = 0 WHERE lease IS NOT NULL AND lease_until > :too_far AND id NOT IN (:held);

-- name: due
SELECT id, free_at FROM predictions
WHERE provider = :provider AND state = :state AND free_at <= :now AND id NOT IN (:held)
ORDER BY free_at LIMIT :most;

-- name: lock_account
SELECT running, hold_until FROM accounts WHERE account = :account;

-- name: taken
SELECT COUNT(*) AS n FROM predictions
WHERE account = :account AND state = 'queued' AND lease IS NOT NULL AND lease_until > :now;

-- name: turns
-- The first due prediction of each owner, of the owner first that was served least recently.
SELECT * FROM (
  SELECT queues.provider, queues.owner, queues.served, (
    SELECT id FROM predictions AS p
    WHERE p.provider = queues.provider AND p.owner = queues.owner AND p.state = 'queued' AND p.free_at <= :now
      AND p.id NOT IN (:held)
    ORDER BY p.free_at, p.created_at, p.lane, p.step LIMIT 1) AS id
  FROM queues WHERE queues.provider = :provider AND queues.queued > 0
) AS firsts
WHERE id IS NOT NULL ORDER BY served, owner LIMIT :most;

-- name: queued
SELECT id, provider, owner FROM predictions
WHERE provider = :provider AND owner = :owner AND state = 'queued' AND free_at <= :now AND id NOT IN (:held)
ORDER BY free_at, created_at, lane, step LIMIT :most;

-- name: take
UPDATE predictions SET lease = :lease || id, lease_until = :until,
  account = CASE WHEN state = 'queued' THEN :account ELSE account END
WHERE id IN (:ids) AND free_at <= :now
RETURNING *;

-- name: serve
UPDATE queues SET served = (SELECT MAX(served) FROM queues WHERE provider = :provider) + 1
WHERE provider = :provider AND owner = :owner;

-- name: hold_account
UPDATE accounts SET hold_until = :until WHERE account = :account AND (hold_until < :until OR hold_until > :too_far);

-- name: quiet_account
UPDATE accounts SET quiet_until = :until WHERE account = :account AND (quiet_until < :until OR quiet_until > :too_far);

-- name: schedule_sweep
UPDATE accounts SET next_sweep = :at, sweeping = :sweeping
WHERE account = :account AND (next_sweep = :seen OR next_sweep > :too_far);

-- name: heartbeat
UPDATE predictions SET lease_until = :until WHERE lease IN (:leases);

-- name: move
UPDATE predictions SET
  state = :state, due_at = :due_at, attempts = :attempts, fault = :fault, ticket = :ticket, poll_url = :poll_url,
  submitted_at = :submitted_at, submitted_mono = :submitted_mono, deadline_at = :deadline_at,
  finished_at = :finished_at, looked_mono = :looked_mono, sent_urls = :sent_urls,
  charged_usd = :charged_usd, charge_is_estimate = :charge_is_estimate,
  reserved_usd = :reserved_usd, lease = :lease, lease_until = :lease_until
WHERE id = :id;

-- name: put_back
UPDATE predictions SET lease = NULL, lease_until = 0, due_at = :due_at WHERE id = :id AND lease = :lease;

-- name: note_loss
UPDATE predictions SET fault = :fault WHERE id = :id AND state = 'submitting' AND fault IS NULL;

-- name: renew
UPDATE predictions SET lease_until = :until WHERE id = :id AND lease = :lease AND state = 'submitting';

-- name: boot
SELECT id FROM boot;

-- name: set_boot
UPDATE boot SET id = :id;

-- name: forget_monotonic
-- Ages continue from the wall clock at this moment; it may jump later. Ages over two days are not needed. A request that
-- may have been sent gets a fault: with an uncertain age, no list proves that it was not accepted.
UPDATE predictions SET
  fault = CASE WHEN state = 'submitting' THEN :fault ELSE fault END,
  lease = NULL, lease_until = 0, due_at = 0, deadline_at = NULL, looked_mono = NULL,
  created_mono = CASE WHEN created_at > :now - 172800 THEN :mono - (:now - created_at) END,
  submitted_mono = CASE WHEN submitted_at > :now - 172800 THEN :mono - (:now - submitted_at) END
WHERE created_mono IS NOT NULL OR submitted_mono IS NOT NULL OR due_at <> 0 OR state = 'submitting';

-- name: lease_of
SELECT state, lease, reserved_usd, lease_until, fault, ticket, submitted_at FROM predictions WHERE id = :id;

-- name: add_frame
INSERT INTO frames (job_id, n, prediction_id, url, url_expires_at, sha256, saved_path, source, error, layer, created_at)
VALUES (:job_id, :n, :prediction_id, :url, :url_expires_at, :sha256, :saved_path, :source, :error, :layer, :now)
ON CONFLICT (job_id, n) DO NOTHING;

-- name: frame_home
UPDATE frames SET sha256 = :sha256, error = NULL WHERE job_id = :job_id AND n = :n;

-- name: frame_failed
UPDATE frames SET error = :error, attempts = attempts + 1 WHERE job_id = :job_id AND n = :n;

-- name: frame_saved
UPDATE frames SET saved_path = :saved_path WHERE job_id = :job_id AND n = :n;

-- name: unblock
UPDATE predictions SET state = 'queued', due_at = 0 WHERE after_id = :id AND state = 'waiting';

-- name: followers
SELECT id FROM predictions WHERE after_id = :id;

-- name: states
-- The states in the job, each found by one look into an index.
SELECT value AS state FROM json_each('["waiting", "queued", "submitting", "running", "fetching", "done", "failed",
  "cancelled", "uncertain"]') WHERE EXISTS (SELECT 1 FROM predictions WHERE job_id = :job_id AND state = value);

-- name: home
SELECT COUNT(sha256) AS n, COUNT(CASE WHEN sha256 IS NULL AND url IS NULL THEN 1 END) AS lost FROM frames
WHERE job_id = :job_id;

-- name: has_home
SELECT 1 FROM frames WHERE job_id = :job_id AND sha256 IS NOT NULL LIMIT 1;

-- name: lock_job
-- First in every transaction that writes a job's status, so that one follows another's predictions.
SELECT id FROM jobs WHERE id = :id;

-- name: lock_predictions
-- Before a verb that reads all predictions of a job and then writes some.
SELECT id FROM predictions WHERE job_id = :job_id AND id = '';

-- name: job_status
SELECT status, returned, cancel_requested, warnings FROM jobs WHERE id = :id;

-- name: job_seen
SELECT status, owner, save_to, (SELECT COUNT(*) FROM frames WHERE frames.job_id = jobs.id AND sha256 IS NOT NULL) AS returned
FROM jobs WHERE id = :id;

-- name: jobs_changed
SELECT id, owner, (SELECT COUNT(*) FROM frames WHERE frames.job_id = jobs.id AND sha256 IS NOT NULL) AS returned
FROM jobs WHERE id IN (:ids);

-- name: newest_ends
SELECT submitted_at, finished_at FROM predictions
WHERE job_id = :job_id AND state IN ('fetching', 'done', 'failed') AND submitted_at IS NOT NULL AND finished_at IS NOT NULL
ORDER BY finished_at DESC LIMIT :limit;

-- name: left
SELECT lane, state, submitted_at FROM predictions
WHERE job_id = :job_id AND state IN ('waiting', 'queued', 'submitting', 'running') ORDER BY lane;

-- name: first_submit
SELECT MIN(submitted_at) AS at FROM predictions WHERE job_id = :job_id;

-- name: stages
SELECT step, COUNT(*) AS total, COUNT(CASE WHEN state = 'done' THEN 1 END) AS done,
       COUNT(CASE WHEN state IN ('failed', 'cancelled', 'uncertain') THEN 1 END) AS lost
FROM predictions WHERE job_id = :job_id GROUP BY step;

-- name: spent
SELECT COALESCE(charged_usd, quoted_usd) AS usd, COUNT(*) AS n FROM predictions
WHERE job_id = :job_id AND (charged_usd IS NOT NULL OR state IN ('fetching', 'done')) GROUP BY usd;

-- name: job_fixed
SELECT request, sources, live_offer FROM jobs WHERE id = :id;

-- name: refresh_job
UPDATE jobs SET
  status = :status, returned = :returned,
  ended_at = CASE WHEN :status IN ('done', 'partial') THEN COALESCE(ended_at, :now) END,
  ended_mono = CASE WHEN :status IN ('done', 'partial') THEN COALESCE(ended_mono, :mono) END
WHERE id = :job_id;

-- name: fix_page_size
UPDATE jobs SET page_size = :page_size WHERE id = :id AND page_size IS NULL;

-- name: save_also
-- -1: to be copied now; a job that made no image has something to save too, its manifest. -2: once the job has ended.
INSERT INTO saves (job_id, directory, saved)
SELECT id, :directory, CASE WHEN status IN ('queued', 'running') THEN -2 ELSE -1 END FROM jobs WHERE id = :job_id
ON CONFLICT (job_id, directory) DO UPDATE SET saved = excluded.saved;

-- name: to_save
SELECT job_id, directory FROM saves WHERE saved = -1 AND (:job_id IS NULL OR job_id = :job_id)
ORDER BY job_id, directory;

-- name: save_again
UPDATE saves SET saved = CASE WHEN :status IN ('queued', 'running') THEN -2 ELSE -1 END WHERE job_id = :job_id;

-- name: saved_also
-- An image that was stored meanwhile is to be copied too.
UPDATE saves SET saved = CASE WHEN :saved < (SELECT returned FROM jobs WHERE jobs.id = saves.job_id) THEN -1 ELSE :saved END
WHERE job_id = :job_id AND directory = :directory AND saved <> -2;

-- name: note_saved_file
INSERT INTO saved_files (path) VALUES (:path) ON CONFLICT (path) DO NOTHING;

-- name: saved_among
SELECT path FROM saved_files WHERE path IN (SELECT value FROM json_each(:paths));

-- name: warn_job
UPDATE jobs SET warnings = :warnings WHERE id = :job_id;

-- name: reroute_job
UPDATE jobs SET provider = :provider, model = :model, endpoint = :endpoint, routes = :routes, warnings = :warnings
WHERE id = :id;

-- name: reroute_prediction
UPDATE predictions SET
  provider = :provider, endpoint = :endpoint, operation = :operation, size = :size,
  quoted_usd = :quoted_usd, reserved_usd = :quoted_usd, quote_exact = 0, state = :state, attempts = 0, fault = NULL,
  submitted_at = NULL, submitted_mono = NULL, deadline_at = NULL, looked_mono = NULL, sent_urls = NULL, due_at = 0,
  lease = NULL, lease_until = 0
WHERE id = :id;

-- name: ask_cancel
UPDATE jobs SET cancel_requested = 1 WHERE id = :id;

-- name: ticket_taken
SELECT 1 FROM predictions WHERE provider = :provider AND ticket = :ticket LIMIT 1;

-- name: tickets
SELECT ticket FROM predictions WHERE provider = :provider AND ticket IS NOT NULL;

-- name: unaccounted
SELECT * FROM predictions
WHERE provider = :provider AND endpoint = :endpoint AND id <> :id AND ticket IS NULL AND submitted_at > :since
  AND state IN ('submitting', 'uncertain', 'cancelled');

-- name: unfinished_at
SELECT * FROM predictions
WHERE provider = :provider AND state IN ('waiting', 'queued', 'submitting', 'running', 'fetching', 'uncertain');

-- name: running_at
SELECT * FROM predictions
WHERE provider = :provider AND state = 'running' AND ticket IS NOT NULL
ORDER BY submitted_at LIMIT 50;

-- name: poll_now
UPDATE predictions SET due_at = 0
WHERE provider = :provider AND state = 'running' AND ticket IN (:tickets);

-- name: hintable
SELECT 1 FROM predictions
WHERE id = :id AND client_id = :key AND state = 'running' AND due_at > :now
  AND (hinted_mono <= :now - :pause_s OR hinted_mono > :now);

-- name: hint
UPDATE predictions SET due_at = :now, hinted_mono = :now
WHERE id = :id AND state = 'running' AND due_at > :now AND (hinted_mono <= :now - :pause_s OR hinted_mono > :now);

-- name: note_change
INSERT INTO changes (job_id, mono, process) VALUES (:job_id, :mono, :process)
ON CONFLICT (job_id) DO UPDATE SET mono = excluded.mono, process = excluded.process;

-- name: changes_since
SELECT job_id, mono FROM changes WHERE mono > :since AND process <> :process ORDER BY mono;

-- name: forget_changes
DELETE FROM changes;

-- name: unfinished
SELECT COUNT(*) AS n FROM predictions WHERE state IN ('waiting', 'queued', 'submitting', 'running', 'fetching');

-- name: image_back
UPDATE images SET pruned_at = NULL, file = :file WHERE sha256 = :sha256;

-- name: image_in_objects
UPDATE images SET file = :file WHERE sha256 = :sha256 AND pruned_at IS NULL;

-- name: images_home
SELECT sha256, handle, mime_type, file, created_at FROM images WHERE pruned_at IS NULL ORDER BY created_at, handle;

-- name: job_times
SELECT jobs.created_at AS made_at, MAX(jobs.created_at, COALESCE(MAX(submitted_at), 0), COALESCE(MAX(finished_at), 0))
  AS moved_at
FROM jobs LEFT JOIN predictions ON job_id = jobs.id WHERE jobs.id = :job_id;

-- name: job_ages
SELECT jobs.id, jobs.status,
       MAX(jobs.created_at, COALESCE(MAX(submitted_at), 0), COALESCE(MAX(finished_at), 0)) AS last_at
FROM jobs LEFT JOIN predictions ON job_id = jobs.id GROUP BY jobs.id;

-- name: outputs
SELECT job_id, n, sha256, saved_path FROM frames WHERE sha256 IS NOT NULL
ORDER BY saved_path IS NULL, created_at, job_id, n;

-- name: all_requests
SELECT id AS job_id, request FROM jobs;

-- name: prune_image
UPDATE images SET pruned_at = :now WHERE sha256 = :sha256;

-- name: drop_expired_copies
DELETE FROM copies WHERE expires_at < :now;

-- name: add_look
INSERT INTO looks (owner, name, version, words, images, removed, created_at)
VALUES (:owner, :name, :version, :words, :images, 0, :now);

-- name: newest_look
SELECT * FROM looks WHERE owner = :owner AND name = :name ORDER BY version DESC LIMIT 1;

-- name: look_versions
SELECT * FROM looks WHERE owner = :owner AND name = :name ORDER BY version;

-- name: looks
SELECT * FROM looks AS one WHERE owner = :owner AND removed = 0
  AND version = (SELECT MAX(version) FROM looks WHERE owner = one.owner AND name = one.name)
ORDER BY name;

-- name: remove_look
UPDATE looks SET removed = 1 WHERE owner = :owner AND name = :name AND removed = 0
  AND version = (SELECT MAX(version) FROM looks WHERE owner = :owner AND name = :name);

-- name: images_of_looks
-- Every version of the looks that are not removed.
SELECT images FROM looks AS one WHERE 0 = (
  SELECT removed FROM looks WHERE owner = one.owner AND name = one.name ORDER BY version DESC LIMIT 1
);

-- name: overview_predictions
-- In flight and uncertain, never the history; the queued ones are counted in `queues`.
SELECT provider, state, COUNT(*) AS number FROM predictions
WHERE state IN ('waiting', 'submitting', 'running', 'fetching', 'uncertain')
GROUP BY state, provider
UNION ALL
SELECT provider, 'queued' AS state, SUM(queued) AS number FROM queues GROUP BY provider;

-- name: overview_jobs
SELECT status, COUNT(*) AS number FROM jobs WHERE status IN ('queued', 'running', 'uncertain') GROUP BY status;

-- name: overview_accounts
SELECT account, provider, running, hold_until FROM accounts ORDER BY account;

-- name: overview_due
-- The first of an index for each provider and state. Queued ones may wait long for their account, and rightly so; a due
-- time of 0 means "now", and has no age.
SELECT MIN(due) AS due FROM (
  SELECT (SELECT MIN(free_at) FROM predictions p
          WHERE p.provider = a.provider AND state = 'running' AND free_at > 0) AS due FROM accounts a
  UNION ALL
  SELECT (SELECT MIN(free_at) FROM predictions p
          WHERE p.provider = a.provider AND state = 'submitting' AND free_at > 0) AS due FROM accounts a
  UNION ALL
  SELECT (SELECT MIN(free_at) FROM predictions p
          WHERE p.provider = a.provider AND state = 'fetching' AND free_at > 0) AS due FROM accounts a
) AS firsts;
