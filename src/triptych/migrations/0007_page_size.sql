-- compatible: a program that does not know this migration may go on
-- How many images a page of the job's result lists: set when an ended job is first listed in pages, and never changed,
-- so that a page keeps its images when their URLs change. Null before, and where all fit on one page.
ALTER TABLE jobs ADD COLUMN page_size INTEGER;
