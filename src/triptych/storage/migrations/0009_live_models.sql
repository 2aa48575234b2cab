-- A job keeps the offer that it was made under if no table has it, as JSON: one of a live catalogue, or one made for a
-- name. Null: a built-in offer.
ALTER TABLE jobs ADD COLUMN live_offer TEXT;
-- The name and place of an output that is a layer of a picture, as JSON.
ALTER TABLE frames ADD COLUMN layer TEXT;
