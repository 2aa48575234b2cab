"""The database: jobs, predictions, outputs, images, the budget and the numbered migrations."""
