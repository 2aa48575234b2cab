"""The shipped server, and in front of it what the conformance suite asks every server under test to have.

Most of the suite's scenarios call tools, prompts and resources of the suite's own (`test_simple_text`,
`test://static-text`, …). They are answered here as its descriptions say; every other request goes to Triptych's own
handlers. Factory, transport, guards and era handling are the shipped ones, so those are what the suite judges.

Run as a program it serves streamable HTTP on a free port and says on stderr where. What the suite asks for and Triptych
has no use for (an event store for broken streams, tools for the tasks extension) is not made up here: it stands in the
list of expected failures.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp.shared.message import ServerMessageMetadata

from triptych import settings
from triptych.server import transports
from triptych.server.app import TriptychServer, build

Context = ServerRequestContext[Any, Any]
Reply = types.CallToolResult | types.InputRequiredResult
Play = Callable[[Context, types.CallToolRequestParams], Awaitable[Reply]]
Given = Mapping[str, Any]

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
"""One red pixel."""
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
"""No sound at all."""
IMAGE = types.ImageContent(data=PNG, mime_type="image/png")


# -- tools -------------------------------------------------------------------------------------------------------------


def said(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)])


def embedded(uri: str, mime_type: str, text: str) -> types.EmbeddedResource:
    return types.EmbeddedResource(resource=types.TextResourceContents(uri=uri, mime_type=mime_type, text=text))


def always(*content: types.ContentBlock, is_error: bool = False) -> Play:
    async def play(ctx: Context, params: types.CallToolRequestParams) -> Reply:
        return types.CallToolResult(content=list(content), is_error=is_error)

    return play


def form(message: str, **properties: Any) -> types.ElicitRequest:
    """Return a question to the user; a field that has no default is required."""
    required = [name for name, schema in properties.items() if "default" not in schema]
    schema = {"type": "object", "properties": properties, "required": required}
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(prompt: str, max_tokens: int = 100) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=types.TextContent(text=prompt))
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens)
    )


async def progress(ctx: Context, params: types.CallToolRequestParams) -> Reply:
    for done in (0, 50, 100):
        await ctx.session.report_progress(done, 100)
        await anyio.sleep(0.01)
    return said("Three steps were reported.")


async def log(ctx: Context, params: types.CallToolRequestParams) -> Reply:
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MCPDeprecationWarning)
            await ctx.session.send_log_message("info", line, related_request_id=ctx.request_id)
        await anyio.sleep(0.01)
    return said("Three lines were logged.")


async def break_off(ctx: Context, params: types.CallToolRequestParams) -> Reply:
    """Close the stream in the middle of the call, where the transport lets a client come back for the rest."""
    if ctx.close_sse_stream:
        await ctx.close_sse_stream()
    return said("The client came back, or never left.")


async def greet(ctx: Context, params: types.CallToolRequestParams) -> Reply:
    return said(f"Hello, {(params.arguments or {}).get('name', 'you')}!")


def a_job(given: Given) -> dict[str, Any]:
    """Return the call of Triptych's that stands for `slow_compute`: a frame for each second, three at most."""
    count = min(3, max(1, int(given.get("seconds", 1))))
    arguments = {"prompt": str(given.get("label", "a lighthouse")), "count": count, "again": True}
    return {"name": "generate_sequence", "arguments": arguments}


async def ask_model(ctx: Context, params: types.CallToolRequestParams) -> Reply:
    """Ask the client's model while the call runs, as before 2026-07-28."""
    related = ServerMessageMetadata(related_request_id=ctx.request_id)
    question = sample((params.arguments or {})["prompt"])
    answer = await ctx.session.send_request(question, types.CreateMessageResult, metadata=related)
    return said(f"LLM response: {answer.content.text if answer.content.type == 'text' else answer.content.type}")


def ask_user(question: Callable[[Given], types.ElicitRequest]) -> Play:
    """Ask the user while the call runs, as before 2026-07-28."""

    async def play(ctx: Context, params: types.CallToolRequestParams) -> Reply:
        related = ServerMessageMetadata(related_request_id=ctx.request_id)
        request = question(params.arguments or {})
        answer = await ctx.session.send_request(request, types.ElicitResult, metadata=related)
        return said(f"Elicitation completed: action={answer.action}, content={json.dumps(answer.content)}")

    return play


def require(answer: Callable[[Given], str], state: str | None = None, **requests: types.InputRequest) -> Play:
    """Ask by an unfinished result, as from 2026-07-28 on, until every answer is there, and the state with them."""

    async def play(ctx: Context, params: types.CallToolRequestParams) -> Reply:
        given = params.input_responses or {}
        if set(requests) - set(given) or params.request_state != state:
            return types.InputRequiredResult(input_requests=requests, request_state=state)
        return said(answer(given))

    return play


async def require_twice(ctx: Context, params: types.CallToolRequestParams) -> Reply:
    given: Given = params.input_responses or {}
    if params.request_state == "named" and "step2" in given:
        return said(f"The colour is {given['step2'].content['color']}.")
    if params.request_state == "begun" and "step1" in given:
        question, key, state = form("Step 2: What is your favorite color?", color={"type": "string"}), "step2", "named"
    else:
        question, key, state = form("Step 1: What is your name?", name={"type": "string"}), "step1", "begun"
    return types.InputRequiredResult(input_requests={key: question}, request_state=state)


async def require_what_the_client_can(ctx: Context, params: types.CallToolRequestParams) -> Reply:
    can = ctx.session.client_capabilities or types.ClientCapabilities()
    requests: dict[str, types.InputRequest] = {}
    if can.elicitation:
        requests["name"] = NAME
    if can.sampling:
        requests["greeting"] = sample("Generate a greeting")
    return types.InputRequiredResult(input_requests=requests) if requests else said("The client can do neither.")


async def need_sampling(ctx: Context, params: types.CallToolRequestParams) -> Reply:
    needed = types.ClientCapabilities(sampling=types.SamplingCapability())
    if ctx.session.check_client_capability(needed):
        return said("The client can sample.")
    data = types.MissingRequiredClientCapabilityErrorData(required_capabilities=needed)
    raise MCPError(
        types.MISSING_REQUIRED_CLIENT_CAPABILITY,
        "This tool needs a client that samples.",
        data.model_dump(by_alias=True, mode="json", exclude_none=True),
    )


NAME = form("What is your name?", name={"type": "string"})
ROOTS = types.ListRootsRequest()
CONFIRM = form("Please confirm", ok={"type": "boolean"})
DEFAULTS = form(
    "Please look at the defaults",
    name={"type": "string", "default": "John Doe"},
    age={"type": "integer", "default": 30},
    score={"type": "number", "default": 95.5},
    status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    verified={"type": "boolean", "default": True},
)
OPTIONS = ["option1", "option2", "option3"]
TITLED = [{"const": f"value{n}", "title": f"{word} Option"} for n, word in enumerate(("First", "Second", "Third"), 1)]
ENUMS = form(
    "Please choose",
    untitledSingle={"type": "string", "enum": OPTIONS},
    titledSingle={"type": "string", "oneOf": TITLED},
    legacyEnum={"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
    untitledMulti={"type": "array", "items": {"type": "string", "enum": OPTIONS}},
    titledMulti={"type": "array", "items": {"anyOf": TITLED}},
)
TOOLS: dict[str, Play] = {
    "test_simple_text": always(types.TextContent(text="This is a simple text response for testing.")),
    "test_image_content": always(IMAGE),
    "test_audio_content": always(types.AudioContent(data=WAV, mime_type="audio/wav")),
    "test_embedded_resource": always(
        embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")
    ),
    "test_multiple_content_types": always(
        types.TextContent(text="Multiple content types test:"),
        IMAGE,
        embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ),
    "test_error_handling": always(
        types.TextContent(text="This tool intentionally returns an error for testing"), is_error=True
    ),
    "test_tool_with_progress": progress,
    "test_tool_with_logging": log,
    "test_logging_tool": log,
    "test_reconnection": break_off,
    "greet": greet,
    "test_sampling": ask_model,
    "test_elicitation": ask_user(
        lambda given: form(given["message"], username={"type": "string"}, email={"type": "string"})
    ),
    "test_elicitation_sep1034_defaults": ask_user(lambda _: DEFAULTS),
    "test_elicitation_sep1330_enums": ask_user(lambda _: ENUMS),
    "test_input_required_result_elicitation": require(
        lambda given: f"Hello, {given['user_name'].content['name']}!", user_name=NAME
    ),
    "test_streaming_elicitation": require(lambda _: "It was answered.", user_name=NAME),
    "test_input_required_result_sampling": require(
        lambda given: given["capital_question"].content.text, capital_question=sample("What is the capital of France?")
    ),
    "test_input_required_result_list_roots": require(
        lambda given: ", ".join(str(root.uri) for root in given["client_roots"].roots), client_roots=ROOTS
    ),
    "test_input_required_result_request_state": require(lambda _: "state-ok", state="asked", confirm=CONFIRM),
    "test_input_required_result_tampered_state": require(lambda _: "state-ok", state="asked", confirm=CONFIRM),
    "test_input_required_result_multiple_inputs": require(
        lambda given: ", ".join(sorted(given)),
        state="asked",
        user_name=NAME,
        greeting=sample("Generate a greeting", 50),
        client_roots=ROOTS,
    ),
    "test_input_required_result_multi_round": require_twice,
    "test_input_required_result_capabilities": require_what_the_client_can,
    "test_missing_capability": need_sampling,
    "test_custom_headers": always(types.TextContent(text="The header said what the argument says.")),
    "json_schema_2020_12_tool": always(types.TextContent(text="It is the schema that matters.")),
}

_TEXT = {"type": "string"}
SCHEMAS: dict[str, dict[str, Any]] = {
    "test_sampling": {"type": "object", "properties": {"prompt": _TEXT}, "required": ["prompt"]},
    "test_elicitation": {"type": "object", "properties": {"message": _TEXT}, "required": ["message"]},
    "test_custom_headers": {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}},
    "json_schema_2020_12_tool": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {"$anchor": "addressDef", "type": "object", "properties": {"street": _TEXT, "city": _TEXT}}
        },
        "properties": {
            "name": _TEXT,
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": _TEXT,
            "email": _TEXT,
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
}
LISTED = [
    types.Tool(name=name, description="What the suite asks for.", input_schema=SCHEMAS.get(name, {"type": "object"}))
    for name in (*TOOLS, "slow_compute")
]


# -- prompts and resources ---------------------------------------------------------------------------------------------


def _words(text: str) -> types.PromptMessage:
    return types.PromptMessage(role="user", content=types.TextContent(text=text))


def _message(content: types.ContentBlock) -> types.PromptMessage:
    return types.PromptMessage(role="user", content=content)


PROMPTS: dict[str, tuple[str, ...]] = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
    "test_input_required_result_prompt": (),
}
"""Each prompt with its arguments, all required."""


def prompt(params: types.GetPromptRequestParams) -> types.GetPromptResult | types.InputRequiredResult | None:
    given = params.arguments or {}
    match params.name:
        case "test_simple_prompt":
            messages = [_words("This is a simple prompt for testing.")]
        case "test_prompt_with_arguments":
            messages = [_words(f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'")]
        case "test_prompt_with_embedded_resource":
            resource = embedded(given["resourceUri"], "text/plain", "Embedded resource content for testing.")
            messages = [_message(resource), _words("Please process the embedded resource above.")]
        case "test_prompt_with_image":
            messages = [_message(IMAGE), _words("Please analyze the image above.")]
        case "test_input_required_result_prompt":
            answers: Given = params.input_responses or {}
            if "user_context" not in answers:
                question = form("What context should the prompt use?", context={"type": "string"})
                return types.InputRequiredResult(input_requests={"user_context": question})
            messages = [_words(answers["user_context"].content["context"])]
        case _:
            return None
    return types.GetPromptResult(messages=messages)


def resource(uri: str) -> types.TextResourceContents | types.BlobResourceContents | None:
    if uri == "test://static-text":
        text = "This is the content of the static text resource."
        return types.TextResourceContents(uri=uri, mime_type="text/plain", text=text)
    if uri == "test://static-binary":
        return types.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)
    if uri == "test://watched-resource":
        return types.TextResourceContents(uri=uri, mime_type="text/plain", text="Watched resource content")
    if uri.startswith("test://template/") and uri.endswith("/data"):
        name = uri.removeprefix("test://template/").removesuffix("/data")
        text = json.dumps({"id": name, "templateTest": True, "data": f"Data for ID: {name}"})
        return types.TextResourceContents(uri=uri, mime_type="application/json", text=text)
    return None


RESOURCES = [
    types.Resource(uri=f"test://{name}", name=name, description="What the suite asks for.")
    for name in ("static-text", "static-binary", "watched-resource")
]
TEMPLATE = types.ResourceTemplate(uri_template="test://template/{id}/data", name="template", description="By its id.")


# -- in front of the shipped handlers ----------------------------------------------------------------------------------


def judged(server: TriptychServer) -> TriptychServer:
    """Return the server with the suite's fixtures in front of its own handlers."""

    def before(method: str, mine: Callable[[Context, Any], Awaitable[Any]]) -> None:
        """Let `mine` answer first; where it returns None, Triptych answers."""
        own = server.get_request_handler(method)
        assert own is not None, f"Triptych does not answer {method}"

        async def handle(ctx: Context, params: Any) -> Any:
            answer = await mine(ctx, params)
            return await own.handler(ctx, params) if answer is None else answer

        server.add_request_handler(method, own.params_type, handle)

    def longer(method: str, field: str, more: list[Any]) -> None:
        """Let Triptych's list have these too."""
        own = server.get_request_handler(method)
        assert own is not None, f"Triptych does not answer {method}"

        async def handle(ctx: Context, params: Any) -> Any:
            answer: Any = await own.handler(ctx, params)
            return answer.model_copy(update={field: [*getattr(answer, field), *more]})

        server.add_request_handler(method, own.params_type, handle)

    async def call(ctx: Context, params: types.CallToolRequestParams) -> Any:
        if params.name == "slow_compute":
            return await paid.handler(ctx, params.model_copy(update=a_job(params.arguments or {})))
        play = TOOLS.get(params.name)
        return await play(ctx, params) if play else None

    async def get_prompt(ctx: Context, params: types.GetPromptRequestParams) -> Any:
        return prompt(params)

    async def read(ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult | None:
        found = resource(params.uri)
        return types.ReadResourceResult(contents=[found]) if found else None

    async def complete(ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult | None:
        if params.ref.type != "ref/prompt" or params.ref.name not in PROMPTS:
            return None
        values = [word for word in ("paris", "park", "party") if word.startswith(params.argument.value)]
        return types.CompleteResult(completion=types.Completion(values=values, total=len(values), has_more=False))

    async def set_level(ctx: Context, params: types.SetLevelRequestParams) -> types.EmptyResult:
        return types.EmptyResult()

    paid = server.get_request_handler("tools/call")
    assert paid is not None
    longer("tools/list", "tools", LISTED)
    longer("resources/list", "resources", RESOURCES)
    longer("resources/templates/list", "resource_templates", [TEMPLATE])
    prompts = [
        types.Prompt(
            name=name,
            description="What the suite asks for.",
            arguments=[types.PromptArgument(name=argument, required=True) for argument in arguments],
        )
        for name, arguments in PROMPTS.items()
    ]
    longer("prompts/list", "prompts", prompts)
    before("tools/call", call)
    before("prompts/get", get_prompt)
    before("resources/read", read)
    before("completion/complete", complete)
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, set_level)

    own_schema = server.get_tool_input_schema
    schemas = {tool.name: tool.input_schema for tool in LISTED}
    server.get_tool_input_schema = lambda name: schemas.get(name) or (own_schema(name) if own_schema else None)
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience="triptych"))
    return server


if __name__ == "__main__":
    transports.build = lambda *given, **named: judged(build(*given, **named))
    transports.serve(settings.read(os.environ, remote=True), "http", "127.0.0.1", 0)
