"""Jobs, from a paid call to its stored images: planning, submits, polls, downloads, and the results of every call.

Other packages use these modules. This file imports none of them, because a start needs only some:

    service       `ImageService`, the use-cases; `open_service` runs it with its worker
    config        the configuration of a service
    catalogues    the offers of providers' live catalogues
    planning      checks a request, makes jobs
    results       the results of tools and commands
    look_results, model_results  the results that show looks, and models
    job_reads     a caller's jobs and the ledger, read from the store
    presenters    stored values as results
    resumption    returns predictions to the worker when a call asks for their job
    file_links    signed URLs of image files
    caller        who calls, and what they may do
    callbacks     URLs at which providers report ends
    pruning       removes old image files and objects
    object_copying  copies image files into an object store

The others serve this package alone:

    database_opening, other_processes, waiting    the database, and changes in it
    job_creation, routing, pricing, cost_check, live_choice    a call becomes a job
    inputs, expanded, reading, tables, table_cells, looks, retries, lanes    what a call is about
    request_facts, remaining    what is shown of a job
    image_access, image_preview, comparison, saving, save_plan, file_names, manifest    images for users
    worker    the worker, and its steps: submission with submit_gate, provider_requests and uploads; polling,
        early_outputs, completion, downloads, transitions
"""

__all__ = [
    "callbacks",
    "caller",
    "catalogues",
    "config",
    "file_links",
    "job_reads",
    "look_results",
    "model_results",
    "object_copying",
    "planning",
    "presenters",
    "pruning",
    "results",
    "resumption",
    "service",
]
