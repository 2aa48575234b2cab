"""The MCP server: ten tools and a few resources over stdio, streamable HTTP and SSE.

    transports -> http, service_holder, app -> sessions
                      -> tools -> schemas, resources, progress      (imported when first called)

Rules: nothing here decides anything about images, jobs or money, `jobs.service` does; a start imports only what
`initialize` needs; what reaches the assistant is either a result of `results` or one of `errors`, never an exception's
own text.
"""
