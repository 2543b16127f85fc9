"""Candidates of one prompt: sampled, judged while others are still being written, and ranked.

Each candidate has a stream of its own at the verifier, so that its verdict is known at once and can end the search. The
search ends itself between two forward passes, when the time is up or a candidate passes, and leaves nothing running.
What is not known by then has no reward and ranks last.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from rlvr_cpp.policy.policy import Policy
from rlvr_cpp.policy.sampling import Finished, completion_seed, for_inference, sample
from rlvr_cpp.policy.settings import Sampling
from rlvr_cpp.reward.tiers import compute_reward
from rlvr_cpp.search.config import Length
from rlvr_cpp.search.ranking import best_first, code_length
from rlvr_cpp.tasks.completion import read_completion
from rlvr_cpp.tasks.task import Task
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.result import VerifyResult
from rlvr_cpp.verifier.stream import VerificationStream
from rlvr_cpp.verifier.verifier import Verifier

TaskScore = Callable[[Sequence[Program], Sequence[VerifyResult]], Sequence[float | None]]
"""The rewards of one task's judged programs, in order; None is unscorable."""


Ending = Literal["all", "full pass", "budget"]
"""Why a search ended: all candidates were judged, or early, at one that passes every test or when the time was up."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One candidate that was written to its end."""

    seed: int
    completion: str
    code: str
    """The whole program without its tests: what was judged."""
    length: int
    """What ranks it among equal rewards: characters of code, or all characters."""
    result: VerifyResult | None
    """Of the public tests; None where the search ended before it was known."""
    reward: float | None
    """None where it is not known or the infrastructure failed."""


@dataclass(frozen=True, kw_only=True)
class BestOfN:
    """What a search found. Lists are in the order of the seeds."""

    asked: int
    """How many candidates were asked for."""
    samples: tuple[Sample, ...]
    """Those that were written to their end."""
    ended: Ending
    seconds: float
    """On the clock, from the first token to the last process that was ended."""

    @property
    def order(self) -> list[int]:
        """Indices of the samples, best first: by reward, length (both descending), index; without a reward last."""
        return best_first(self.rewards, self.lengths)

    @property
    def best(self) -> int | None:
        """Index of the best sample; None where none was written to its end."""
        return self.order[0] if self.samples else None

    @property
    def best_code(self) -> str | None:
        """The best sample's program."""
        return None if self.best is None else self.samples[self.best].code

    @property
    def rewards(self) -> list[float | None]:
        """Of each sample."""
        return [sample.reward for sample in self.samples]

    @property
    def lengths(self) -> list[int]:
        """Of each sample."""
        return [sample.length for sample in self.samples]

    @property
    def length_by_rank(self) -> list[int]:
        """The same, best first: does the ranking favour long code?"""
        return [self.lengths[index] for index in self.order]

    @property
    def seeds(self) -> list[int]:
        """With which each sample was drawn."""
        return [sample.seed for sample in self.samples]

    @property
    def compiled(self) -> int:
        """How many samples compiled."""
        return sum(result.compile_ok for result in self._results())

    @property
    def ran(self) -> int:
        """How many ran to an honest verdict."""
        return sum(result.status in ("ok", "wrong") for result in self._results())

    @property
    def passed(self) -> int:
        """How many passed every public test."""
        return sum(result.passed for result in self._results())

    @property
    def unscorable(self) -> int:
        """How many the infrastructure failed to judge."""
        return sum(result.status == "sandbox_error" for result in self._results())

    @property
    def unjudged(self) -> int:
        """How many were written to their end, but not judged when the search ended."""
        return sum(sample.result is None for sample in self.samples)

    def _results(self) -> list[VerifyResult]:
        return [sample.result for sample in self.samples if sample.result is not None]


def rewards_by_tests(programs: Sequence[Program], results: Sequence[VerifyResult]) -> list[float | None]:
    """The tiers of `compute_reward`."""
    return [compute_reward(result) for result in results]


@dataclass(frozen=True, kw_only=True)
class Search:
    """How candidates are sampled, judged and ranked."""

    n: int
    sampling: Sampling
    batch_size: int | None
    """Candidates that are sampled together; None is all."""
    length: Length
    """What ranks equal rewards."""
    stop_at_full_pass: bool
    budget_s: float | None

    def run(
        self, policy: Policy, prompt_ids: Sequence[int], task: Task, verifier: Verifier, score: TaskScore
    ) -> BestOfN:
        """Search on one prompt."""
        started = time.monotonic()
        seeds = [completion_seed("best_of_n", self.sampling.seed, index) for index in range(self.n)]
        written: dict[int, tuple[str, str]] = {}
        end = math.inf if self.budget_s is None else started + self.budget_s
        ended: Ending = "all"
        with _Judging(task, verifier, self.n, end, self.stop_at_full_pass) as judging:

            def on_finished(index: int, ids: list[int]) -> None:
                completion = policy.decode(ids)
                code = read_completion(task, completion, policy.chat, policy.thoughts).code
                written[index] = completion, code
                judging.submit(index, code)

            try:
                with _asked_each_pass(policy, judging.check):
                    self._sample(policy, prompt_ids, seeds, on_finished)
                judging.wait()
            except _Enough as enough:
                ended = enough.ending
            results = judging.results()
        programs = [task.program(written[index][1]) for index in results]
        rewards = dict(zip(results, score(programs, list(results.values())), strict=True))
        measure = len if self.length == "raw" else code_length
        samples = (
            Sample(
                seed=seeds[i],
                completion=completion,
                code=code,
                length=measure(code),
                result=results.get(i),
                reward=rewards.get(i),
            )
            for i, (completion, code) in sorted(written.items())
        )
        seconds = time.monotonic() - started
        return BestOfN(asked=self.n, samples=tuple(samples), ended=ended, seconds=seconds)

    def _sample(self, policy: Policy, prompt_ids: Sequence[int], seeds: Sequence[int], on_finished: Finished) -> None:
        with for_inference(policy.model):
            sample(
                policy.model,
                [prompt_ids] * self.n,
                max_new_tokens=self.sampling.max_new_tokens,
                eos_ids=policy.eos_ids,
                pad_id=policy.tokenizer.pad_token_id,
                temperature=self.sampling.temperature,
                seeds=seeds,
                batch_size=self.batch_size,
                on_finished=on_finished,
            )


class _Enough(Exception):
    """The search may end."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


@contextmanager
def _asked_each_pass(policy: Policy, check: Callable[[], None]) -> Iterator[None]:
    """Have `check` called before each forward pass: by the embedding, which every wrapper of a model leaves in use."""
    hook = policy.model.get_input_embeddings().register_forward_pre_hook(lambda *_: check())
    try:
        yield
    finally:
        hook.remove()


class _Judging:
    """The verdicts on their way. Leaving the context ends what is running."""

    def __init__(self, task: Task, verifier: Verifier, n: int, end: float, stop_at_full_pass: bool) -> None:
        """`end` is a time of the monotonic clock."""
        self.task, self.verifier, self.end, self.stop_at_full_pass = task, verifier, end, stop_at_full_pass
        self._waiting = ThreadPoolExecutor(n, thread_name_prefix="rlvr-candidate")
        self._streams: list[VerificationStream] = []
        self._open = ExitStack()
        self._by_code: dict[str, Future[list[VerifyResult]]] = {}
        self._by_index: dict[int, Future[list[VerifyResult]]] = {}

    def __enter__(self) -> _Judging:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams:
            stream.stop()  # all before one is waited for: a worker that is free would begin with the next
        self._open.close()
        self._waiting.shutdown()

    def submit(self, index: int, code: str) -> None:
        """Have a candidate judged; one that equals an earlier one shares its verdict."""
        if code not in self._by_code:
            stream = self._open.enter_context(self.verifier.stream())
            self._streams.append(stream)
            stream.submit(self.task.program(code))
            self._by_code[code] = self._waiting.submit(stream.results)
        self._by_index[index] = self._by_code[code]

    def check(self) -> None:
        """Raise _Enough where the time is up, or a candidate passes and that is enough."""
        if time.monotonic() >= self.end:
            raise _Enough("budget")
        if self.stop_at_full_pass and any(result.passed for result in self.results().values()):
            raise _Enough("full pass")

    def wait(self) -> None:
        """Until every candidate is judged; raises _Enough where that is earlier."""
        left = None if self.end == math.inf else max(0.0, self.end - time.monotonic())
        try:
            for _ in as_completed(self._by_code.values(), left):
                self.check()
        except TimeoutError:
            raise _Enough("budget") from None

    def results(self) -> dict[int, VerifyResult]:
        """What is known by now, by candidate."""
        return {index: future.result()[0] for index, future in sorted(self._by_index.items()) if future.done()}
