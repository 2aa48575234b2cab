"""Jobs, from a paid call to its stored images: planning, submits, polls, downloads, and the results of every call.

Other packages use these modules. This file imports none of them, because a start needs only some:

    service       `ImageService`, the use-cases; `open_service` runs it with its worker
    catalogues    the offers of providers' live catalogues
    planning      checks a request, makes jobs
    results       the results of tools and commands, as pydantic models
    look_results, model_results  the results that show looks, and models
    presenters    stored values as results
    file_links    signed URLs of image files
    caller        who calls, and what they may do
    callbacks     URLs at which providers report ends
    pruning       removes old image files and objects
    object_copying  copies image files into an object store

The others serve this package alone: `job_creation`, `database_opening`, `inputs` with `tables`, `looks`, `retries` and
`reading`, `routing`, `pricing`, `cost_check`, `live_choice`, `other_processes`, `job_reads`, `request_facts`,
`remaining`, `image_access`, `image_preview`, `comparison`, `saving` with `save_plan`, `file_names` and `manifest`, and
`worker` with its steps (`submission`, `provider_requests`, `completion`, `polling`, `downloads`, `uploads`,
`transitions`).
"""

__all__ = [
    "callbacks",
    "caller",
    "catalogues",
    "file_links",
    "look_results",
    "model_results",
    "object_copying",
    "planning",
    "presenters",
    "pruning",
    "results",
    "service",
]
