"""Every parameter does what the table of fates says, and no request breaks Google's rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.providers.gemini_rules import complaint

import golden_harness as harness
from polymux.errors import Failure
from polymux.providers.base import Asked, Recall
from polymux.providers.gemini import Gemini
from polymux.providers.gemini_fates import FATES
from polymux.providers.gemini_request import address, translate
from polymux.schema.chat import ChatRequest
from polymux.types import Deployment, Quirks, WireRequest
from support.parameters import EXAMPLES, request

HI: list[Any] = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f"}}
OTHER = {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {"a": {}}}}}
THIRD, SECOND = "gemini-3.5-flash", "gemini-2.5-flash"
BASE = "https://generativelanguage.googleapis.com/v1beta"


def run(fields: dict[str, Any], model: str = THIRD, base: str = BASE) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The wire body and the dropped names for a request of one message and `fields`."""
    asked = msgspec.convert({"model": "m", "messages": HI, **fields}, ChatRequest)
    wire, dropped = translate(asked, Deployment("p/m", "p", model, "gemini", base), {})
    return msgspec.json.decode(msgspec.json.encode(wire)), dropped


def sent(fields: dict[str, Any], to: Deployment) -> WireRequest:
    flow = Gemini().flow(msgspec.convert({"model": "m", "messages": HI, **fields}, ChatRequest), Asked("m", 7, to))
    wanted: Any = None
    while True:
        try:
            asked = flow.send(wanted)
        except StopIteration as stop:
            return stop.value
        assert isinstance(asked, Recall)
        wanted = {}


# ---- Google's rules --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((harness.ROOT / "gemini").glob("*.txt")), ids=lambda path: path.stem)
def test_no_request_of_a_golden_case_breaks_the_rules(path: Path) -> None:
    case = harness.read_case(path)
    if "wire request" not in case.sections:
        assert "failure" in case.sections
        return
    head, _, body = case.sections["wire request"].partition("\n\n")
    model = head.partition("/models/")[2].partition(":")[0]
    assert complaint(json.loads(body), model) == ""


@pytest.mark.parametrize("base", [BASE, BASE.replace("v1beta", "v1")])
@pytest.mark.parametrize("model", [THIRD, SECOND])
@pytest.mark.parametrize("name", EXAMPLES)
def test_no_request_of_an_example_breaks_the_rules(name: str, model: str, base: str) -> None:
    if FATES[name].what == "refused":
        return
    body, _ = run(request(EXAMPLES[name].asked), model, base)
    assert complaint(body, model) == ""


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"contents": []}, "not empty"),
        ({"contents": HI, "model": "m"}, "Cannot find field"),
        ({"contents": [{"role": "model", "parts": [{"text": "a"}]}]}, "begin with role user"),
        ({"contents": [{"role": "user", "parts": [{"text": "a"}]}] * 2}, "alternate"),
        ({"contents": [{"role": "user", "parts": [{"text": ""}]}]}, "empty"),
        ({"contents": [{"role": "user", "parts": [{"text": "a", "inlineData": {}}]}]}, "exactly one"),
        (
            {
                "contents": [
                    {"role": "user", "parts": [{"text": "a"}]},
                    {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
                    {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]},
                ]
            },
            "thought_signature",
        ),
    ],
)
def test_the_rules_find(body: dict[str, Any], text: str) -> None:
    assert text in complaint(body, THIRD)


# ---- where it goes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-3.5-flash", "models/gemini-3.5-flash"),
        ("models/gemini-3.5-flash", "models/gemini-3.5-flash"),
        ("tunedModels/mine", "tunedModels/mine"),
        ("a:b?c#d/../e", "models/a%3Ab%3Fc%23d%2F..%2Fe"),
        ("files/x", "models/files%2Fx"),
    ],
)
def test_a_model_is_a_name_and_no_path(model: str, path: str) -> None:
    assert address(Deployment("", "", model, "gemini", BASE), "generateContent") == f"{BASE}/{path}:generateContent"


def test_a_stream_is_asked_for_in_the_address() -> None:
    to = Deployment("", "p", THIRD, "gemini", BASE, (("x-goog-api-key", "k"),))
    streamed, whole = sent({"stream": True}, to), sent({}, to)
    assert streamed.url == f"{BASE}/models/{THIRD}:streamGenerateContent?alt=sse"
    assert whole.url == f"{BASE}/models/{THIRD}:generateContent"
    assert (streamed.body, streamed.headers) == (whole.body, to.headers)


def test_a_row_may_set_and_drop_members() -> None:
    safety = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}]
    quirks = Quirks(set={"safetySettings": safety}, drop=("serviceTier",))
    wire = sent({"service_tier": "flex"}, Deployment("", "p", THIRD, "gemini", BASE, quirks=quirks))
    assert json.loads(wire.body)["safetySettings"] == safety
    assert wire.dropped == ("service_tier",)


def test_a_row_may_say_that_json_schema_is_not_taken() -> None:
    quirks = Quirks(drop=("parametersJsonSchema",))
    wire = sent({"tools": [OTHER]}, Deployment("", "p", THIRD, "gemini", BASE, quirks=quirks))
    (function,) = json.loads(wire.body)["tools"][0]["functionDeclarations"]
    assert function["parameters"]["type"] == "OBJECT"
    assert wire.dropped == ("tools[].function.parameters",)  # that `a` may be anything


# ---- parameters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "logprobs": False, "top_logprobs": 0},
        {"presence_penalty": 0, "frequency_penalty": 0.0},
        {"logit_bias": {}, "metadata": {}, "store": False},
        {"modalities": ["text"], "verbosity": "medium", "service_tier": "auto"},
        {"response_format": {"type": "text"}},
        {"tool_choice": "auto"},
        {"stop": []},
    ],
)
def test_values_that_ask_for_nothing_are_neither_sent_nor_named(fields: dict[str, Any]) -> None:
    assert run(fields) == (run({})[0], ())


@pytest.mark.parametrize(("seed", "wire"), [(0, 0), (-5, -5), (2**31 - 1, 2**31 - 1), (2**31, 0), (2**40 + 7, 7)])
def test_seeds_are_made_to_fit(seed: int, wire: int) -> None:
    body, dropped = run({"seed": seed})
    assert (body["generationConfig"]["seed"], dropped) == (wire, ())


def test_top_logprobs_need_logprobs() -> None:
    assert run({"top_logprobs": 3})[0]["generationConfig"] == {"responseLogprobs": True, "logprobs": 3}


@pytest.mark.parametrize(
    ("choice", "wire"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (TOOL, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        ({"type": "custom", "custom": {"name": "f"}}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_choices(choice: Any, wire: Any) -> None:
    assert run({"tools": [TOOL, OTHER], "tool_choice": choice})[0]["toolConfig"] == {"functionCallingConfig": wire}


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_tools_that_are_not_allowed_are_not_told(mode: str) -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [TOOL]}}
    body, dropped = run({"tools": [TOOL, OTHER], "tool_choice": choice})
    assert [one["name"] for one in body["tools"][0]["functionDeclarations"]] == ["f"]
    assert body["toolConfig"]["functionCallingConfig"] == {"mode": "AUTO" if mode == "auto" else "ANY"}
    assert dropped == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [("tool_choice", "maybe"), ("tool_choice", {"name": "f"}), ("tool_choice", {}), ("function_call", {"x": 1})],
)
def test_an_unknown_choice_is_refused(name: str, value: Any) -> None:
    with pytest.raises(Failure) as caught:
        run({"tools": [TOOL], name: value})
    assert (caught.value.kind, caught.value.param) == ("invalid_value", name)


def test_a_tool_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(Failure) as caught:
        run({"tools": [{"type": "computer"}]})
    assert caught.value.param == "tools[0]"


def test_strict_functions_are_validated_where_that_is_possible() -> None:
    strict = [{"type": "function", "function": {"name": "f", "strict": True}}]
    assert run({"tools": strict})[0]["toolConfig"]["functionCallingConfig"] == {"mode": "VALIDATED"}
    body, dropped = run({"tools": strict}, SECOND)
    assert "toolConfig" not in body
    assert dropped == ("tools[].function.strict",)


def test_search_and_functions_do_not_stand_together() -> None:
    body, dropped = run({"web_search_options": {}, "tools": [TOOL]})
    assert [list(tool) for tool in body["tools"]] == [["functionDeclarations"]]
    assert dropped == ("web_search_options",)


def test_a_format_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(Failure) as caught:
        run({"response_format": {"type": "xml"}})
    assert caught.value.param == "response_format.type"


def test_what_a_schema_loses_in_the_subset_is_named() -> None:
    form = {"name": "n", "schema": {"type": "object", "properties": {"a": {"type": "string", "format": "uri"}}}}
    fields = {"response_format": {"type": "json_schema", "json_schema": form}}
    assert run(fields)[1] == ()
    assert run(fields, base=BASE.replace("v1beta", "v1"))[1] == ("response_format.json_schema.schema",)
