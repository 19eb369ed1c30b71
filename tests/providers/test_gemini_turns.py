"""Messages in every order and shape become contents that Google takes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from polymux.errors import Failure
from polymux.providers.gemini_thinking import generation
from polymux.providers.gemini_turns import UNSIGNED, conversation, detail_of, signature_of, unsigned_calls
from polymux.schema.chat import Message

THIRD = "gemini-3.5-flash"
HI = {"role": "user", "content": "hi"}


def run(
    *messages: Any, known: dict[str, str] | None = None, model: str = THIRD
) -> tuple[list[Any], list[Any], set[str]]:
    lost: set[str] = set()
    given = msgspec.convert(list(messages), list[Message])
    system, contents = conversation(given, known or {}, lost, generation(model))
    return msgspec.to_builtins(system), _plain(contents), lost


def _plain(contents: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(contents))


def calls(*ids: str, **more: Any) -> dict[str, Any]:
    made = [{"id": i, "type": "function", "function": {"name": f"f_{i}", "arguments": "{}"}} for i in ids]
    return {"role": "assistant", "tool_calls": made, **more}


def result(call: str, content: Any = "r") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call, "content": content}


def parts(content: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = content["parts"]
    return found


# ---- turns -------------------------------------------------------------------------------------------------------


def test_instructions_alone_leave_something_to_answer() -> None:
    system, contents, _ = run({"role": "system", "content": "be brief"})
    assert (system, contents) == ([{"text": "be brief"}], [{"parts": [{"text": "."}], "role": "user"}])


def test_messages_without_anything_are_left_out() -> None:
    _, contents, _ = run(HI, {"role": "assistant", "content": ""}, {"role": "user", "content": []})
    assert contents == [{"parts": [{"text": "hi"}], "role": "user"}]


def test_steps_of_calls_and_results() -> None:
    _, contents, _ = run(
        HI, calls("a"), result("a"), calls("b", "c"), result("c"), result("b"), known={"a": "AA", "b": "BB"}
    )
    assert [content["role"] for content in contents] == ["user", "model", "user", "model", "user"]
    assert [part["functionResponse"]["id"] for part in parts(contents[4])] == ["b", "c"]
    assert [part.get("thoughtSignature") for content in contents for part in parts(content)] == [
        *(None, "AA", None, "BB", None, None, None)
    ]


def test_only_the_first_call_of_a_step_is_given_the_way_out() -> None:
    _, contents, _ = run(HI, calls("a", "b"), result("a"), result("b"), known={"b": "BB"})
    assert [part["thoughtSignature"] for part in parts(contents[1])] == [UNSIGNED, "BB"]
    _, contents, _ = run(HI, calls("a", "b"), result("a"), result("b"))
    assert "thoughtSignature" not in parts(contents[1])[1]


@pytest.mark.parametrize("model", ["gemini-2.5-pro", "claude-sonnet-5"])
def test_models_that_ask_for_no_signature_get_none_but_the_right_one(model: str) -> None:
    _, contents, _ = run(HI, calls("a"), result("a"), model=model)
    assert "thoughtSignature" not in parts(contents[1])[0]
    _, contents, _ = run(HI, calls("a"), result("a"), known={"a": "AA"}, model=model)
    assert parts(contents[1])[0]["thoughtSignature"] == "AA"


def test_a_call_without_an_id_is_answered_by_its_name() -> None:
    _, contents, _ = run(HI, calls(""), {"role": "tool", "content": "r"})
    assert parts(contents[1])[0]["functionCall"] == {"name": "f_", "args": {}}
    assert parts(contents[2])[0]["functionResponse"] == {"name": "f_", "response": {"result": "r"}}


def test_calls_that_share_an_id_are_answered_one_after_another() -> None:
    """As some servers number them; the next turn begins anew."""
    shared = [{"id": "0", "function": {"name": name}} for name in "abc"]
    first, second = ({"role": "assistant", "tool_calls": some} for some in (shared[:2], shared[2:]))
    _, contents, _ = run(HI, first, result("0"), result("0"), second, result("0"))
    answered = [part["functionResponse"]["name"] for n in (2, 4) for part in parts(contents[n])]
    assert answered == ["a", "b", "c"]


def test_a_result_that_names_its_function_needs_no_call() -> None:
    _, contents, _ = run(HI, {"role": "tool", "tool_call_id": "x", "name": "f", "content": "r"})
    assert parts(contents[0])[0]["functionResponse"]["name"] == "f"


@pytest.mark.parametrize(
    ("arguments", "args"),
    [
        ("", {}),
        (" ", {}),
        ('{"a":1}', {"a": 1}),
        ("[1]", {"_raw": "[1]"}),
        ("{", {"_raw": "{"}),
        ("null", {}),
    ],
)
def test_arguments_are_an_object(arguments: str, args: Any) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    _, contents, _ = run(HI, {"role": "assistant", "tool_calls": [call]})
    assert parts(contents[1])[0]["functionCall"]["args"] == args


@pytest.mark.parametrize(
    ("content", "response"),
    [
        ('{"a": 1}', {"a": 1}),
        ("plain", {"result": "plain"}),
        ("[1, 2]", {"result": "[1, 2]"}),
        ("", {"result": ""}),
        (None, {"result": ""}),
        ('{"a": [{"$ref": "#/x"}]}', {"result": '{"a": [{"$ref": "#/x"}]}'}),
        ('{"a": "$ref"}', {"a": "$ref"}),
        ([{"type": "text", "text": '{"a"'}, {"type": "text", "text": ": 1}"}], {"a": 1}),
    ],
)
def test_results_are_an_object(content: Any, response: Any) -> None:
    _, contents, _ = run(HI, calls("a"), result("a", content))
    assert parts(contents[2])[0]["functionResponse"]["response"] == response


def test_a_call_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(Failure) as caught:
        run(HI, {"role": "assistant", "tool_calls": [{"id": "a", "type": "novel"}]})
    assert caught.value.param == "messages[1].tool_calls[0]"


# ---- signatures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "signature"),
    [
        (None, ""),
        ({"google": {"thought_signature": "c2ln"}}, "c2ln"),
        ({"vertex": {"thought_signature": "c2ln"}}, "c2ln"),
        ({"google": {"thought_signature": "a-_="}}, "a-_="),
        ({"google": {"thought_signature": UNSIGNED}}, UNSIGNED),
        ({"google": {"thought_signature": "msg 01"}}, ""),
        ({"google": {"thought_signature": "abcde"}}, ""),
        ({"google": {"thought_signature": 5}}, ""),
        ({"google": "x", "other": {}}, ""),
    ],
)
def test_a_signature_is_what_google_can_read(extra: Any, signature: str) -> None:
    assert signature_of(extra) == signature


def test_what_is_to_be_recalled() -> None:
    kept = {"google": {"thought_signature": "c2ln"}}
    signed = {"id": "k", "type": "function", "function": {"name": "f"}, "extra_content": kept}
    given = [HI, calls("a", "b"), {"role": "assistant", "tool_calls": [signed]}, calls("a", "")]
    assert unsigned_calls(msgspec.convert(given, list[Message])) == ["a", "b"]
    many = [str(n) for n in range(1000)]
    assert unsigned_calls(msgspec.convert([HI, calls(*many)], list[Message])) == many[-256:]


def test_the_signature_of_a_text_goes_back_behind_it() -> None:
    _, contents, lost = run(HI, {"role": "assistant", "content": "a", "reasoning_details": [detail_of("c2ln")]})
    assert parts(contents[1]) == [{"text": "a"}, {"text": "", "thoughtSignature": "c2ln"}]
    assert lost == set()


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_without_a_signature_is_named(name: str) -> None:
    assert run(HI, {"role": "assistant", "content": "a", name: "hm"})[2] == {f"messages[].{name}"}


# ---- content -----------------------------------------------------------------------------------------------------


def content(part: Any, model: str = THIRD) -> Any:
    _, contents, _ = run({"role": "user", "content": [part]}, model=model)
    return parts(contents[0])[0]


@pytest.mark.parametrize(
    ("url", "wire"),
    [
        ("data:image/PNG;base64,AA==", {"inlineData": {"mimeType": "image/png", "data": "AA=="}}),
        ("data:image/jpg;base64,AA==", {"inlineData": {"mimeType": "image/jpeg", "data": "AA=="}}),
        ("data:;base64,AA==", {"inlineData": {"mimeType": "text/plain", "data": "AA=="}}),
        ("https://e.org/a.JPG?w=1", {"fileData": {"fileUri": "https://e.org/a.JPG?w=1", "mimeType": "image/jpeg"}}),
        ("https://youtu.be/abc", {"fileData": {"fileUri": "https://youtu.be/abc"}}),
        ("gs://b/c.pdf", {"fileData": {"fileUri": "gs://b/c.pdf", "mimeType": "application/pdf"}}),
        ("http://[/a.png", {"fileData": {"fileUri": "http://[/a.png"}}),
    ],
)
def test_images(url: str, wire: Any) -> None:
    assert content({"type": "image_url", "image_url": {"url": url}}) == wire
    assert content({"type": "image_url", "image_url": url}) == wire


def test_own_files_need_no_fetching() -> None:
    own = "https://generativelanguage.googleapis.com/v1beta/files/a"
    image = {"type": "image_url", "image_url": own}
    assert content(image, "gemini-2.0-flash") == {"fileData": {"fileUri": own}}


@pytest.mark.parametrize("url", ["ftp://e.org/a.png", "data:image/png,AA", "file:///etc/passwd", ""])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(Failure) as caught:
        content({"type": "image_url", "image_url": url})
    assert caught.value.kind == "unsupported_content"


@pytest.mark.parametrize(
    ("file", "wire"),
    [
        (
            {"file_data": "data:application/pdf;base64,AA=="},
            {"inlineData": {"mimeType": "application/pdf", "data": "AA=="}},
        ),
        ({"file_data": "JVBERi0="}, {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}}),
        ({"file_data": "AA==", "filename": "a.md"}, {"inlineData": {"mimeType": "text/markdown", "data": "AA=="}}),
        (
            {"file_data": "https://e.org/a.pdf"},
            {"fileData": {"fileUri": "https://e.org/a.pdf", "mimeType": "application/pdf"}},
        ),
        ({"file_id": "https://e.org/a"}, {"fileData": {"fileUri": "https://e.org/a"}}),
    ],
)
def test_files(file: Any, wire: Any) -> None:
    assert content({"type": "file", "file": file}) == wire
