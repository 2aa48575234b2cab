-- A job stores its request as one JSON document, and its predictions use that. Earlier versions stored parts of it in
-- columns of the job and of every prediction; they did not store the size and the model as the caller wrote them.
ALTER TABLE jobs ADD COLUMN request TEXT NOT NULL DEFAULT '{}';
UPDATE jobs SET request = json_object(
  'tool', tool,
  'prompts', json(CASE WHEN tool = 'edit_chain' THEN
    (SELECT json_group_array(prompt) FROM
      (SELECT prompt FROM predictions p WHERE p.job_id = jobs.id AND p.lane = 0 ORDER BY p.step))
    ELSE json_array(prompt) END),
  'images', json(CASE WHEN tool = 'edit_chain' THEN
    (SELECT json_group_array(json_extract(inputs, '$[0]')) FROM
      (SELECT inputs FROM predictions p WHERE p.job_id = jobs.id AND p.step = 0 ORDER BY p.lane))
    ELSE COALESCE((SELECT inputs FROM predictions p WHERE p.job_id = jobs.id), '[]') END),
  'references', json(CASE WHEN tool = 'edit_chain' THEN
    COALESCE((SELECT json_remove(inputs, '$[0]') FROM predictions p
      WHERE p.job_id = jobs.id AND p.lane = 0 AND p.step = 0), '[]')
    ELSE '[]' END),
  'count', COALESCE((SELECT MAX(count) FROM predictions p WHERE p.job_id = jobs.id), 1),
  'format', (SELECT MAX(format) FROM predictions p WHERE p.job_id = jobs.id)
);
ALTER TABLE jobs DROP COLUMN tool;
ALTER TABLE jobs DROP COLUMN prompt;
ALTER TABLE jobs DROP COLUMN requested;
ALTER TABLE jobs DROP COLUMN lanes;
ALTER TABLE jobs DROP COLUMN steps;

ALTER TABLE predictions ADD COLUMN size TEXT;                        -- [width, height] in pixels
UPDATE predictions SET size = json_array(width, height) WHERE width IS NOT NULL;
ALTER TABLE predictions DROP COLUMN width;
ALTER TABLE predictions DROP COLUMN height;
ALTER TABLE predictions DROP COLUMN prompt;
ALTER TABLE predictions DROP COLUMN count;
ALTER TABLE predictions DROP COLUMN format;
ALTER TABLE predictions DROP COLUMN inputs;
ALTER TABLE predictions DROP COLUMN took_s;                          -- unused

-- A route of the first version had one quote for all lanes.
UPDATE jobs SET routes = (
  SELECT json_group_array(json(CASE WHEN json_extract(route.value, '$.quotes_usd') IS NOT NULL THEN route.value ELSE
    json_set(json_remove(route.value, '$.quoted_usd'), '$.quotes_usd', json((
      SELECT json_group_array(usd) FROM
        (SELECT json_extract(route.value, '$.quoted_usd') AS usd FROM json_each(route.value, '$.sizes'))))) END))
  FROM json_each(jobs.routes) route
) WHERE routes LIKE '%"quoted_usd"%';
