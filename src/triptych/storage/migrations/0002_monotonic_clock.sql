-- Due times, deadlines and leases are seconds of the system's monotonic clock from here on. What earlier versions
-- wrote there was wall-clock time: all of it is due at once, and no lease is held.
ALTER TABLE predictions ADD COLUMN created_mono DOUBLE PRECISION;    -- monotonic twins of the wall-clock columns,
ALTER TABLE predictions ADD COLUMN submitted_mono DOUBLE PRECISION;  -- null once the machine has restarted
ALTER TABLE predictions ADD COLUMN took_s DOUBLE PRECISION;          -- from the submit to the provider's end
ALTER TABLE predictions ADD COLUMN looked_mono DOUBLE PRECISION;     -- the first look for a lost submit
ALTER TABLE predictions ADD COLUMN sent_urls TEXT;                   -- the references' URLs in the request that left
UPDATE predictions SET lease = NULL, lease_until = 0, due_at = 0, deadline_at = NULL, took_s = finished_at - submitted_at;

-- One row: the boot of the machine whose monotonic clock the columns above show.
CREATE TABLE boot (id TEXT NOT NULL);
INSERT INTO boot (id) VALUES ('');
