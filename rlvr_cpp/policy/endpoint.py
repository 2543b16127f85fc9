"""A model behind an endpoint with OpenAI's API, such as vLLM's server: completions or chat, several requests at a time.

A server that is busy or away is asked again, with growing pauses; one that stays so ends the evaluation, and what has
been judged by then stays. Its trouble is never an answer.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rlvr_cpp.errors import UserError
from rlvr_cpp.policy.chat import chat_messages
from rlvr_cpp.policy.completers import SAMPLED, Answered, Question
from rlvr_cpp.policy.sampling import completion_seed
from rlvr_cpp.policy.settings import ChatSettings, Sampling
from rlvr_cpp.verifier.think import KNOWN_THOUGHTS, Thoughts

AT_ONCE = 16  # requests under way: the server batches them
TRIES = 5
ANSWER_SECONDS = 600.0
BUSY = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses after which another try may succeed."""
KEY = "OPENAI_API_KEY"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Answers questions by HTTP. The key in the environment's `OPENAI_API_KEY` is sent where there is one."""

    url: str
    """Base URL, the version included, such as `http://localhost:8000/v1`."""
    model: str
    chat: bool
    sampling: Sampling
    """Each request has a seed of its own made of its seed; whether it is heeded is the server's business."""
    thoughts: Thoughts = KNOWN_THOUGHTS
    asked: ChatSettings = field(default_factory=ChatSettings)
    """Of a chat: the system prompt, and arguments of the template, which vLLM's server takes."""
    pause: float = 1.0
    """Seconds before the second try, doubled before each further one."""

    def complete(self, questions: Sequence[Question], on_answer: Answered) -> None:
        """Answer every question. Raises UserError where the server refuses or keeps failing."""
        places = queue.SimpleQueue[int]()
        for place in range(len(questions)):
            places.put(place)
        answers = queue.SimpleQueue[tuple[int, str | UserError]]()

        def work() -> None:
            while not ended.is_set():
                try:
                    place = places.get_nowait()
                except queue.Empty:
                    return
                try:
                    answers.put((place, self._ask(questions[place])))
                except UserError as error:
                    answers.put((place, error))

        ended = threading.Event()
        for _ in range(min(AT_ONCE, len(questions))):
            threading.Thread(target=work, daemon=True).start()  # an interruption does not wait for the server
        try:
            for _ in questions:
                place, answer = answers.get()
                if isinstance(answer, UserError):
                    raise answer
                on_answer(place, answer)
        finally:
            ended.set()

    def _ask(self, question: Question) -> str:
        task = question.task
        asked: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self.sampling.max_new_tokens,
            "temperature": self.sampling.temperature if question.kind == SAMPLED else 0.0,
            "seed": completion_seed("evaluation", self.sampling.seed, task.task_id, question.sample) >> 32,  # 31 bits
        }
        if self.chat:
            asked["messages"] = chat_messages(task, self.asked.system)
            if self.asked.template_kwargs:
                asked["chat_template_kwargs"] = dict(self.asked.template_kwargs)
        else:
            asked["prompt"] = task.prompt
        answer = self._post("chat/completions" if self.chat else "completions", asked)
        try:
            choice = answer["choices"][0]
            text = choice["message"]["content"] if self.chat else choice["text"]
        except (KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"endpoint {self.url!r} sent an answer without a completion ({error!r}): it must speak OpenAI's API, "
                f"with policy.prompt_format {'chat' if self.chat else 'completion'}"
            ) from error
        return str(text or "")

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        place = f"{self.url.rstrip('/')}/{path}"
        request = urllib.request.Request(place, json.dumps(body).encode(), headers)
        reason = ""
        for tried in range(TRIES):
            if tried:
                time.sleep(self.pause * 2 ** (tried - 1))
            try:
                with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                reason = f"status {error.code}: {error.read(300).decode(errors='replace').strip()}"
                if error.code not in BUSY:
                    break
            except (OSError, ValueError, http.client.HTTPException) as error:
                reason = str(error)
        raise UserError(
            f"endpoint {self.url!r} does not answer {path} ({reason}): check the server, the URL and model "
            f"{self.model!r}, then go on with resume=<this run's folder>"
        )
