-- compatible: a program that does not know this migration may go on
-- When `triptych prune` removed an image's file (UTC seconds). Its row stays, and so do the jobs that name it.
ALTER TABLE images ADD COLUMN pruned_at DOUBLE PRECISION;
