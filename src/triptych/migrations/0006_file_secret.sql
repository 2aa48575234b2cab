-- compatible: a program that does not know this migration may go on
-- One row, made at the first need: the random secret with which an HTTP server signs the URLs of image files.
CREATE TABLE file_secret (
  one    INTEGER PRIMARY KEY CHECK (one = 1),
  secret TEXT NOT NULL
);
