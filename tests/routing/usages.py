"""Usage as vendors send it, and what it costs, computed by hand at the prices of `prices.json`.

The payloads follow the vendors' documents and recordings; the sums are tokens x dollars per million tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from polymux.types import Usage

Payload = Mapping[str, Any]


class Row(NamedTuple):
    """`cost` in dollars; None = unknown."""

    case: str
    preset: str
    model: str
    read: Callable[[Payload], Usage]
    payload: Payload
    sum: str
    cost: str | None


def openai(of: Payload) -> Usage:
    """OpenAI's usage; DeepSeek's and Moonshot's places for cached tokens; xAI's reasoning beside the completion."""
    prompt, answer = of.get("prompt_tokens_details", {}), of.get("completion_tokens_details", {})
    into, out, reasoning = of["prompt_tokens"], of.get("completion_tokens", 0), answer.get("reasoning_tokens", 0)
    beside = reasoning > 0 and of["total_tokens"] == into + out + reasoning
    return Usage(
        into,
        out + reasoning if beside else out,
        prompt.get("cached_tokens", of.get("cached_tokens", of.get("prompt_cache_hit_tokens", 0))),
        prompt.get("cache_write_tokens", 0),
        reasoning,
        audio_input=prompt.get("audio_tokens", 0),
        audio_output=answer.get("audio_tokens", 0),
    )


def anthropic(of: Payload) -> Usage:
    """`input_tokens` counts only what is neither read from nor written to the cache."""
    written, cached = of.get("cache_creation_input_tokens", 0), of.get("cache_read_input_tokens", 0)
    return Usage(
        of["input_tokens"] + written + cached,
        of["output_tokens"],
        cached,
        written,
        of.get("output_tokens_details", {}).get("thinking_tokens", 0),
        cache_write_1h=of.get("cache_creation", {}).get("ephemeral_1h_input_tokens", 0),
    )


def gemini(of: Payload) -> Usage:
    """The candidates' tokens do not hold the thoughts, nor the prompt's those of tools."""
    thoughts = of.get("thoughtsTokenCount", 0)
    audio = [one["tokenCount"] for one in of.get("promptTokensDetails", []) if one["modality"] == "AUDIO"]
    return Usage(
        of["promptTokenCount"] + of.get("toolUsePromptTokenCount", 0),
        of["candidatesTokenCount"] + thoughts,
        of.get("cachedContentTokenCount", 0),
        reasoning=thoughts,
        audio_input=sum(audio),
    )


def chat(prompt: int, completion: int, cached: int = 0, written: int = 0, reasoning: int = 0) -> Payload:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
    }


def message(tokens: int, out: int, read: int = 0, minutes: int = 0, hour: int = 0) -> Payload:
    return {
        "input_tokens": tokens,
        "output_tokens": out,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": minutes + hour,
        "cache_creation": {"ephemeral_5m_input_tokens": minutes, "ephemeral_1h_input_tokens": hour},
        "service_tier": "standard",
    }


AUDIO: Final = {
    "prompt_tokens": 500,
    "completion_tokens": 120,
    "total_tokens": 620,
    "prompt_tokens_details": {"text_tokens": 100, "audio_tokens": 400},
    "completion_tokens_details": {"text_tokens": 20, "audio_tokens": 100},
}
GROQ: Final = {"queue_time": 0.2, "prompt_tokens": 201, "completion_tokens": 58, "total_tokens": 259}
HIT: Final = {"prompt_cache_hit_tokens": 1500, "prompt_cache_miss_tokens": 500}
BESIDE: Final = {**chat(12, 2, 4, reasoning=40), "total_tokens": 54, "num_sources_used": 0}
KIMI: Final = {"prompt_tokens": 8, "completion_tokens": 11, "total_tokens": 19, "cached_tokens": 8}
SPOKEN: Final = {
    "promptTokenCount": 1000,
    "candidatesTokenCount": 50,
    "totalTokenCount": 1050,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 200}, {"modality": "AUDIO", "tokenCount": 800}],
}
LONG: Final = {"promptTokenCount": 200_001, "cachedContentTokenCount": 150_000, "candidatesTokenCount": 100}
TOOLS: Final = {"promptTokenCount": 100, "toolUsePromptTokenCount": 30, "candidatesTokenCount": 10}
THOUGHT: Final = {"input_tokens": 21, "output_tokens": 46, "output_tokens_details": {"thinking_tokens": 38}}

# fmt: off
ROWS: Final = (
    Row("cached", "openai", "gpt-4o", openai, chat(2006, 300, 1920), "86*2.5 + 1920*1.25 + 300*10", "0.005615"),
    Row("a version of its own price", "openai", "gpt-4o-2024-05-13", openai, chat(1000, 100, 400),
        "1000*5 + 100*15", "0.0065"),
    Row("a version not listed", "openai", "gpt-4.1-2025-04-14", openai, chat(19, 84), "19*2 + 84*8", "0.00071"),
    Row("reasoning at the output price", "openai", "gpt-5-mini", openai, chat(61, 150, reasoning=128),
        "61*0.25 + 150*2", "0.00031525"),
    Row("reasoning, much", "openai", "o1", openai, chat(75, 1186, reasoning=1024), "75*15 + 1186*60", "0.072285"),
    Row("the last prompt below a tier", "openai", "gpt-5.4", openai, chat(272_000, 1000),
        "272000*2.5 + 1000*15", "0.695"),
    Row("the first above, cached counts", "openai", "gpt-5.4", openai, chat(272_001, 1000, 200_000),
        "72001*5 + 200000*0.5 + 1000*22.5", "0.482505"),
    Row("embeddings", "openai", "text-embedding-3-small", openai, {"prompt_tokens": 8, "total_tokens": 8},
        "8*0.02", "0.00000016"),
    Row("one token", "openai", "gpt-4.1-nano", openai, chat(1, 0), "1*0.1", "0.0000001"),
    Row("written, no price of its own", "openai", "gpt-5.1", openai, chat(2006, 10, 1024, 500),
        "482*1.25 + 1024*0.125 + 500*1.25 + 10*10", "0.0014555"),
    Row("nothing", "openai", "gpt-4o", openai, chat(0, 0), "0*2.5", "0"),
    Row("read and written", "anthropic", "claude-sonnet-4-5", anthropic, message(4, 5, 2000, 120),
        "4*3 + 2000*0.3 + 120*3.75 + 5*15", "0.001137"),
    Row("five minutes and an hour",
        "anthropic", "claude-sonnet-4-5-20250929", anthropic, message(10, 100, 0, 1000, 2000),
        "10*3 + 1000*3.75 + 2000*6 + 100*15", "0.01728"),
    Row("thinking", "anthropic", "claude-opus-4-5", anthropic, THOUGHT, "21*5 + 46*25", "0.001255"),
    Row("a dated name", "anthropic", "claude-haiku-4-5-20251001", anthropic, message(900, 12),
        "900*1 + 12*5", "0.00096"),
    Row("the newest of a name", "anthropic", "claude-3-5-sonnet-latest", anthropic, message(472, 89),
        "472*3 + 89*15", "0.002751"),
    Row("a tier by all of the prompt", "azure", "claude-opus-4-6", anthropic, message(1000, 10, 199_000, 1),
        "1000*10 + 199000*1 + 1*12.5 + 10*37.5", "0.2093875"),
    Row("and not yet", "azure", "claude-opus-4-6", anthropic, message(1000, 10, 199_000),
        "1000*5 + 199000*0.5 + 10*25", "0.10475"),
    Row("an hour, above the tier", "azure", "Claude-Opus-4-6", anthropic, message(0, 0, 0, 0, 250_000),
        "250000*20", "5"),
    Row("below the tier, with thoughts", "google", "gemini-2.5-pro", gemini,
        {"promptTokenCount": 200_000, "candidatesTokenCount": 100, "thoughtsTokenCount": 900},
        "200000*1.25 + 1000*10", "0.26"),
    Row("above, cached", "google", "models/gemini-2.5-pro", gemini, {**LONG, "thoughtsTokenCount": 900},
        "50001*2.5 + 150000*0.25 + 1000*15", "0.1775025"),
    Row("audio in", "google", "gemini-2.5-flash", gemini, SPOKEN, "200*0.3 + 800*1 + 50*2.5", "0.000985"),
    Row("the prompt of tools", "google", "gemini-2.5-flash", gemini, TOOLS, "130*0.3 + 10*2.5", "0.000064"),
    Row("a cache hit", "deepseek", "deepseek-chat", openai,
        {"prompt_tokens": 2000, "completion_tokens": 300, "total_tokens": 2300, **HIT},
        "500*0.14 + 1500*0.0028 + 300*0.28", "0.0001582"),
    Row("a miss", "deepseek", "deepseek-reasoner", openai, chat(14, 61, reasoning=52),
        "14*0.14 + 61*0.28", "0.00001904"),
    Row("plain", "groq", "llama-3.3-70b-versatile", openai, GROQ, "201*0.59 + 58*0.79", "0.00016441"),
    Row("a vendor in the name", "groq", "openai/gpt-oss-20b", openai, chat(75, 22, 50),
        "25*0.075 + 50*0.0375 + 22*0.3", "0.00001035"),
    Row("reasoning beside the answer", "xai", "grok-4.3", openai, BESIDE, "8*1.25 + 4*0.2 + 42*2.5", "0.0001158"),
    Row("all of it cached", "moonshot", "kimi-k2.5", openai, KIMI, "8*0.1 + 11*3", "0.0000338"),
    Row("audio both ways", "dashscope", "qwen3-omni-flash", openai, AUDIO,
        "100*0.43 + 400*3.81 + 20*1.66 + 100*15.11", "0.0031112"),
    Row("without thinking", "dashscope", "qwen-plus", openai, chat(166, 20), "166*0.4 + 20*1.2", "0.0000904"),
    Row("thinking raises the whole answer", "dashscope", "qwen-plus", openai, chat(22, 1135, reasoning=1100),
        "22*0.4 + 1135*4", "0.0045488"),
    Row("a tier", "dashscope", "qwen3.6-plus", openai, chat(300_000, 1000), "300000*2 + 1000*6", "0.606"),
    Row("an explicit cache", "dashscope", "qwen3.7-plus", openai, chat(10_000, 50, 8000, 1000),
        "1000*0.5 + 8000*0.05 + 1000*0.625 + 50*3", "0.001675"),
    Row("cached", "zai", "glm-4.6", openai, chat(171, 14, 128), "43*0.6 + 128*0.11 + 14*2.2", "0.00007068"),
    Row("a moving name", "mistral", "mistral-large-latest", openai, chat(124, 36), "124*0.5 + 36*1.5", "0.000116"),
    Row("cached by another name", "together", "Qwen/Qwen3.7-Max", openai, chat(1000, 100, 600),
        "400*1.25 + 600*0.13 + 100*3.75", "0.000953"),
    Row("a write on top of the input", "openrouter", "google/gemini-3.1-pro-preview", openai, chat(5000, 10, 0, 1000),
        "4000*2 + 1000*2.375 + 10*12", "0.010495"),
    Row("a long prompt, half cached", "openrouter", "anthropic/claude-sonnet-4.5", openai,
        chat(250_000, 2000, 100_000, 50_000), "100000*6 + 100000*0.6 + 50000*7.5 + 2000*22.5", "1.08"),
    Row("free by a suffix, listed", "openrouter", "openai/gpt-oss-20b:free", openai, chat(685, 52), "685*0", "0"),
    Row("free by a suffix, not listed", "openrouter", "anthropic/claude-sonnet-4.5:free", openai, chat(685, 52),
        "685*0", "0"),
    Row("free by the list", "zai", "glm-4.5-flash", openai, chat(171, 14, 128), "171*0", "0"),
    Row("one's own machine", "ollama", "llama3.3:70b", openai, chat(26, 298), "26*0", "0"),
    Row("one's own function", "functions", "meow", openai, chat(3, 1), "3*0", "0"),
    Row("an unknown model", "openai", "gpt-99", openai, chat(1, 1), "", None),
    Row("a tuned one", "openai", "ft:gpt-4o-2024-08-06:org::abc", openai, chat(1, 1), "", None),
    Row("another version of it", "openai", "gpt-4o-mini-tts", openai, chat(1, 1), "", None),
    Row("listed without a price", "groq", "groq/compound", openai, chat(1, 1), "", None),
    Row("charged by more than tokens", "perplexity", "sonar-deep-research", openai, chat(1, 1), "", None),
    Row("a suffix that means another price", "openrouter", "anthropic/claude-sonnet-4.5:nitro", openai, chat(1, 1),
        "", None),
    Row("an unknown provider", "openai-compatible", "gpt-4o", openai, chat(1, 1), "", None),
)
# fmt: on
