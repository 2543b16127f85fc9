"""Who answers: the shipped model with a random stream for each sample, and a server that may be busy, wrong or away."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch

from rlvr_cpp import UserError
from rlvr_cpp.policy.completers import GREEDY, SAMPLED, LocalModel, Question
from rlvr_cpp.policy.endpoint import TRIES, Endpoint
from rlvr_cpp.policy.policy import load_policy
from rlvr_cpp.policy.settings import PolicySettings, Sampling
from rlvr_cpp.tasks.task import BUILTIN, load_tasks

SETTINGS = PolicySettings("float32", None, "cpu", None, "auto", 1)
TASKS = load_tasks(BUILTIN)[:3]


def answers(completer, questions):
    found: dict[Any, Any] = {}
    completer.complete(questions, found.__setitem__)
    assert sorted(found) == list(range(len(questions)))
    return [found[place] for place in range(len(questions))]


@pytest.fixture(scope="module")
def policy():
    return load_policy("demo", SETTINGS)


def test_a_sample_depends_on_its_seed_task_and_number_alone(policy):
    asked = [Question(task, SAMPLED, n) for task in TASKS for n in range(3)] + [Question(TASKS[0], GREEDY, 0)]
    whole = answers(LocalModel(policy, Sampling(0, 1.5, 24)), asked)
    assert answers(LocalModel(policy, Sampling(0, 1.5, 24)), asked[::-3]) == whole[::-3]
    assert answers(LocalModel(policy, Sampling(1, 1.5, 24)), asked)[:9] != whole[:9]
    assert answers(LocalModel(policy, Sampling(1, 1.5, 24)), asked)[9] == whole[9]
    assert len(set(whole[:9])) > 3


def test_the_model_is_left_as_it_was(policy):
    policy.model.train()
    answers(LocalModel(policy, Sampling(0, 1.0, 4)), [Question(TASKS[0], GREEDY, 0)])
    assert policy.model.training


@pytest.mark.parametrize("mode", [False, True])
def test_an_interruption_leaves_the_model_as_it_was(policy, mode):
    def interrupt(place: int, completion: str) -> None:
        assert not policy.model.training
        raise KeyboardInterrupt

    was = policy.model.training
    policy.model.train(mode)
    with pytest.raises(KeyboardInterrupt):
        LocalModel(policy, Sampling(0, 1.0, 4)).complete([Question(TASKS[0], GREEDY, 0)], interrupt)
    assert policy.model.training is mode
    assert torch.is_grad_enabled()
    policy.model.train(was)


class Server:
    """Answers by `reply(path, body) -> (status, JSON or text)` and remembers what it was asked."""

    def __init__(self, reply):
        self.requests: list[Any] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, body, self.headers.get("Authorization")))
                status, content = reply(self.path, body)
                text = content if isinstance(content, str) else json.dumps(content)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def endpoint(url, chat=False, **changes):
    return Endpoint(url=url, model="some/model", chat=chat, sampling=Sampling(0, 0.7, 99), pause=0.0, **changes)


def echo(path, body):
    return 200, {"choices": [{"text": f"answer to {body['prompt']}"}]}


def test_completions_are_asked_for_each_prompt(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    asked = [Question(task, kind, 0) for task in TASKS for kind in (GREEDY, SAMPLED)] * 5
    with Server(echo) as server:
        found = answers(endpoint(server.url), asked)
    assert found == [f"answer to {question.task.prompt}" for question in asked]
    assert {path for path, _, _ in server.requests} == {"/v1/completions"}
    assert {(body["model"], body["max_tokens"]) for _, body, _ in server.requests} == {("some/model", 99)}
    assert sorted({body["temperature"] for _, body, _ in server.requests}) == [0.0, 0.7]
    assert {key for _, _, key in server.requests} == {None}


def test_samples_of_one_task_have_other_seeds_and_the_same_ones_again():
    with Server(echo) as server:
        for _ in range(2):
            answers(endpoint(server.url), [Question(TASKS[0], SAMPLED, n) for n in range(4)])
    seeds = [body["seed"] for _, body, _ in server.requests]
    assert len(set(seeds)) == 4
    assert sorted(seeds[:4]) == sorted(seeds[4:])
    assert all(0 <= seed < 1 << 31 for seed in seeds)


def test_a_chat_is_asked_in_a_message_and_the_key_is_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    replies = iter(["```cpp\nint x;\n```", None])
    with Server(lambda path, body: (200, {"choices": [{"message": {"content": next(replies)}}]})) as server:
        found = [answers(endpoint(server.url, chat=True), [Question(TASKS[0], GREEDY, 0)])[0] for _ in range(2)]
    assert found == ["```cpp\nint x;\n```", ""]
    path, body, key = server.requests[0]
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    (message,) = body["messages"]
    assert message["role"] == "user"
    assert TASKS[0].prompt.strip() in message["content"]


def test_a_server_that_is_busy_is_asked_again():
    states = iter([(503, "busy"), (429, "slow down"), (200, "not JSON"), (200, {"choices": [{"text": "there"}]})])
    with Server(lambda path, body: next(states)) as server:
        assert answers(endpoint(server.url), [Question(TASKS[0], GREEDY, 0)]) == ["there"]


REFUSALS = {
    "always busy": ((503, "overloaded"), r"does not answer completions \(status 503: overloaded\)", TRIES),
    "unknown model": ((404, "no such model"), r"status 404: no such model", 1),
    "another API": ((200, {"text": "hello"}), "an answer without a completion", 1),
    "chat instead": ((200, {"choices": [{"message": {"content": "x"}}]}), r"policy\.prompt_format completion", 1),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_server_that_refuses_is_one_sentence(case):
    reply, words, tries = REFUSALS[case]
    with Server(lambda path, body: reply) as server, pytest.raises(UserError, match=words):
        answers(endpoint(server.url), [Question(TASKS[0], GREEDY, 0)])
    assert len(server.requests) == tries


def test_a_server_that_is_not_there_is_one_sentence():
    with Server(echo) as server:
        url = server.url
    with pytest.raises(UserError, match=r"does not answer completions .* go on with resume="):
        answers(endpoint(url), [Question(TASKS[0], GREEDY, 0)])
