"""The limits of a key: what a request takes of them when it comes, and gives back when it has ended."""

from __future__ import annotations

from polymux.errors import Failure
from polymux.routing.limits import duration, prompt_tokens
from polymux.run import Run
from polymux.store.base import Counters


def admit(run: Run, counters: Counters) -> None:
    """Raises `Failure` when a limit is reached; a request that is refused counts for none of them.

    Tokens are reserved by an estimate: of the prompt, and of the answer as long as it may get if the client says so. A
    request that is larger than its key's limit takes all of it.

    What a function model calls is counted too, but not as a further request at the same time: the function, which is
    one already, would wait for itself.
    """
    call, key = run.call, run.call.key
    if key.concurrency and not call.depth:
        if not counters.enter(f"concurrency:{key.id}", key.concurrency):
            text = f"{key.concurrency} requests at the same time are allowed for this key; try again when one has ended"
            raise Failure("rate_limit_exceeded", text, retry_after=1.0)
        run.inside = True
    if key.rpm:
        run.requests = verdict = counters.admit("rpm:" + key.id, key.rpm)
        if not verdict.admitted:
            text = f"{key.rpm} requests per minute are allowed for this key; try again in {duration(verdict.wait)}"
            raise Failure("rate_limit_exceeded", text, retry_after=verdict.wait)
    if key.tpm:
        wanted = min(prompt_tokens(run.surface.prompt(call)) + run.surface.longest(call), key.tpm)
        run.tokens = verdict = counters.admit("tpm:" + key.id, key.tpm, wanted)
        if not verdict.admitted:
            if run.requests is not None:
                counters.correct("rpm:" + key.id, run.requests.second, -1)
            text = (
                f"{key.tpm} tokens per minute are allowed for this key, of which {verdict.remaining} are left, and "
                f"this request may take {wanted}; try again in {duration(verdict.wait)}"
            )
            raise Failure("rate_limit_exceeded", text, retry_after=verdict.wait)
        run.reserved = wanted


def leave(run: Run, counters: Counters) -> None:
    """The request has ended: its tokens are known now, and another one may run."""
    key = run.call.key
    if run.inside:
        run.inside = False
        counters.leave(f"concurrency:{key.id}")
    if run.reserved and run.tokens is not None:
        more = run.used.input + run.used.output - run.reserved
        run.reserved = 0
        if more:
            counters.correct("tpm:" + key.id, run.tokens.second, more)
