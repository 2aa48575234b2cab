"""The MCP server: ten tools, prompts and resources over stdio, streamable HTTP and SSE.

    transports -> taking_over, snapshots  (after a thin start, and for the next)
                  service_holder, app -> sessions
                  app -> tools -> schemas, confirmation, fitting, resources, prompts, progress,
                         protocol_errors  (at the first request)
                         tasks, patience, call_limits, icons
                  http -> draining, webhooks, files, sites, limits, auth, scopes
                          auth -> oauth -> signing_keys, introspection  (with an identity provider alone)
    worker_process    a worker without a server
    monitoring -> health, metrics, tracing  (for balancers and Prometheus)

Rules: this package decides nothing about images, jobs or money; `jobs.service` does. Starting imports only what
`initialize` needs. The assistant receives a result of `jobs.results` or an error of `core.errors`, never the text of
another exception.

Other packages import its modules directly (`transports`, `taking_over`, `worker_process`, `gallery`): importing one
here would slow down every start.
"""

__all__ = ["gallery", "taking_over", "transports", "worker_process"]
