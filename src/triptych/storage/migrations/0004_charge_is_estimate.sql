-- Whether a charge is the list price of what came, because the provider reports none. At these providers it always was.
ALTER TABLE predictions ADD COLUMN charge_is_estimate INTEGER NOT NULL DEFAULT 0;
UPDATE predictions SET charge_is_estimate = 1
WHERE charged_usd IS NOT NULL AND charged_usd <> '0' AND provider IN ('wavespeed', 'ark', 'novita');
