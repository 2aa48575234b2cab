"""Jobs from a request to its stored images: planning, the worker and its steps, and what a caller is answered."""
