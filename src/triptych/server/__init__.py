"""The MCP server: ten tools, prompts and resources over stdio, streamable HTTP and SSE.

    transports -> http, service_holder, app -> sessions
                  http -> draining, webhooks, files, auth, limits
    engine: the worker alone
    health, metrics, tracing: for balancers and monitoring
                      -> tools -> schemas, resources, progress      (imported at the first request)
    http -> auth, scopes -> oauth -> signing_keys, introspection      (the latter with an identity provider alone)

Rules: this package decides nothing about images, jobs or money; `jobs.service` does. Starting imports only what
`initialize` needs. The assistant receives a result of `jobs.results` or an error of `core.errors`, never the text of
another exception.

Other packages import its modules directly (`transports`, `engine`, `gallery`): importing one here would slow down every
start.
"""

__all__ = ["engine", "gallery", "transports"]
