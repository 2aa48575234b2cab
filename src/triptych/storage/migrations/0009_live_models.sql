-- A job made under an offer from a provider's live catalogue keeps that offer, as JSON; null: a built-in offer.
ALTER TABLE jobs ADD COLUMN live_offer TEXT;
-- The name and place of an output that is a layer of a picture, as JSON.
ALTER TABLE frames ADD COLUMN layer TEXT;
