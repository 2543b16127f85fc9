"""Is an answer judged by what it says, or by how it is written? `python -m benchmarks.answer_styles`

Every reference solution, and its wrong twin, is written in each of the styles that models answer in, read as a
completion is, and judged. A right one must pass and a wrong one must not; beside it what a regular expression for the
last fence gives. Programs that differ in white space and comments alone are judged once.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlvr_cpp import Program, Verifier
from rlvr_cpp.tasks.choice import evenly_spaced
from rlvr_cpp.tasks.completion import read_completion
from rlvr_cpp.tasks.negation import negated_solution
from rlvr_cpp.tasks.quality.references import reference_program
from rlvr_cpp.tasks.task import BUILTIN, Task, load_tasks
from rlvr_cpp.verifier.cpp.braces import closing_brace
from rlvr_cpp.verifier.cpp.outline import open_items
from rlvr_cpp.verifier.cpp.signature import tokens

LAST_FENCE = re.compile(r"```[^\n]*\n(.*?)```", re.DOTALL)
TRACE = "step  value  result\n" + "".join(f"{n:4}  {n * n:5}  {n * n % 7:6} as it should be\n" for n in range(40))
HELPER = "inline int answer_zero() { return 0; }\n"
COUNTER = "struct answer_counter { static int made; int count = 0; answer_counter() { ++made; } };\n"
OPERATOR = "inline answer_counter& operator+=(answer_counter& c, int n) { c.count += n; return c; }\n"
MEMBER = "int answer_counter::made = 0;\n"
PSEUDOCODE = "\n    look at each value in turn;\n    return what was found;\n}\n"


@dataclass(frozen=True)
class Answer:
    """What a style is made of."""

    task: Task
    body: str
    """What continues the prompt: a right or a wrong solution."""
    draft: str
    """Another one, always wrong."""

    @property
    def whole(self) -> str:
        """The definition that the prompt opens, complete."""
        return self.head + self.body

    @property
    def head(self) -> str:
        """Of the definition: what the prompt leaves open, without what stands before it."""
        item, _ = open_items(self.task.prompt)[0]
        return self.task.prompt[item.head :]

    @property
    def wrong_draft(self) -> str:
        """A definition that is wrong, and long."""
        return "// a first attempt, to see the shape of it\n" * 9 + self.head + self.draft


def _fence(code: str, language: str = "cpp", marks: str = "```") -> str:
    return f"{marks}{language}\n{code.rstrip()}\n{marks}\n"


def _main(answer: Answer) -> str:
    shown = f"    std::cout << sizeof(&main) << std::endl; // {answer.task.entry_point}\n"
    return f"\n#include <iostream>\nint main() {{\n{shown}}}\n"


def _quoted(text: str) -> str:
    return "".join(f"> {line}\n" for line in text.splitlines())


def _outside_its_class(answer: Answer) -> str:
    """A method by itself, where the prompt has opened its class; else all of it."""
    opened = open_items(answer.task.prompt)
    if len(opened) < 2:
        return answer.whole
    (around, _), (method, offset) = opened[0], opened[1]
    is_template = around.spelling[0] == "template"
    scope = f"{around.name}<T>::" if is_template else f"{around.name}::"
    head = answer.task.prompt[offset + method.head :].replace(f"{method.name}(", f"{scope}{method.name}(", 1)
    end = closing_brace(answer.body, 1)
    return "template <class T>\n" * is_template + head.lstrip() + answer.body[:end]


def _with_overload(answer: Answer) -> str:
    """A function that calls another one of its name from a block before; for a class there is none."""
    name = answer.task.entry_point
    if f"{name}(" not in answer.head:
        return _fence(answer.whole)
    overload = f"inline bool {name}(int, int, int, int, int, int, int) {{ return false; }}"
    return f"{_fence(overload)}Then:\n{_fence(f'{answer.head}if ({name}(1, 2, 3, 4, 5, 6, 7)) {{}}{answer.body}')}"


CHAT: dict[str, Callable[[Answer], str]] = {
    "a fence": lambda a: _fence(a.whole),
    "prose around a fence": lambda a: f"Here's the solution:\n\n{_fence(a.whole)}\nIt runs in O(n) (see above).",
    "tildes": lambda a: _fence(a.whole, marks="~~~"),
    "five ticks": lambda a: _fence(a.whole, marks="`````"),
    "language C++17": lambda a: _fence(a.whole, "C++17"),
    "no language": lambda a: _fence(a.whole, ""),
    "code on the fence's line": lambda a: f"```cpp {a.whole.rstrip()}\n```",
    "fence behind prose": lambda a: f"The code is: ```cpp\n{a.whole.rstrip()}\n```",
    "fence in a list": lambda a: "1. Do it:\n" + "".join(f"   {line}\n" for line in _fence(a.whole).splitlines()),
    "unclosed fence": lambda a: f"So:\n```cpp\n{a.whole}",
    "unclosed fence, prose behind": lambda a: f"```cpp\n{a.whole.rstrip()}\n\nThis does it.\n",
    "a fence in a fence": lambda a: f"````markdown\n# Answer\n{_fence(a.whole)}````\n",
    "a quotation": lambda a: _quoted(f"Here it is:\n\n{_fence(a.whole)}\nDone.") + "\nAs I said.",
    "windows line ends": lambda a: _fence(a.whole).replace("\n", "\r\n"),
    "byte order mark": lambda a: _fence("\ufeff" + a.whole),
    "no fence": lambda a: a.whole,
    "no fence, prose around": lambda a: f"The completed code:\n\n{a.whole.rstrip()}\n\nHope it's fine!",
    "body alone": lambda a: _fence(a.body),
    "body alone, no fence, prose around": lambda a: f"The body is:\n\n{a.body.rstrip()}\n\nThis does it.\n",
    "a method outside of its class": lambda a: _fence(_outside_its_class(a)),
    "whole prompt again": lambda a: _fence(f"#include <vector>\nusing namespace std;\n\n{a.task.prompt}{a.body}"),
    "static inline": lambda a: _fence(a.whole if "struct" in a.head else f"static inline {a.whole}"),
    "a demo main": lambda a: _fence(a.whole + _main(a)),
    "a demo in a block of its own": lambda a: _fence(a.whole) + "Try it:\n" + _fence(_main(a) + f"// {TRACE!r}"),
    "a trace behind": lambda a: _fence(a.whole) + "Trace:\n" + _fence(TRACE, "text"),
    "a shell line behind": lambda a: _fence(a.whole) + _fence("g++ -O2 -Wall -Wextra -o a a.cpp && ./a" * 9, "bash"),
    "a draft before": lambda a: f"First:\n{_fence(a.wrong_draft)}That is wrong. Better:\n{_fence(a.whole)}",
    "an outline behind": lambda a: (
        f"{_fence(a.whole)}In short:\n{_fence(a.head + ' ... ' + '}' * a.task.prompt.count('{'))}"
    ),
    "helper in a block of its own": lambda a: (
        f"{_fence(HELPER)}Then:\n{_fence(a.head + 'if (answer_zero()) {}' + a.body)}"
    ),
    "helper behind": lambda a: f"{_fence(a.head + 'if (answer_zero()) {}' + a.body)}With:\n{_fence(HELPER)}",
    "overload in a block of its own": _with_overload,
    "operator and member elsewhere": lambda a: (
        _fence(COUNTER) + _fence(OPERATOR) + _fence(MEMBER) + _fence(f"{a.head}{{ answer_counter c; c += 1; }}{a.body}")
    ),
    "pseudocode behind": lambda a: f"{_fence(a.whole)}In words:\n{_fence(a.head + PSEUDOCODE, '')}",
    "a draft, corrected without a fence": lambda a: (
        f"First:\n{_fence(a.wrong_draft)}No, that is wrong:\n\n{a.whole}\nThat is better."
    ),
    "thoughts with a draft": lambda a: f"<think>\nMaybe:\n{_fence(a.wrong_draft)}No.\n</think>\n\n{_fence(a.whole)}",
    "thoughts that the prompt opened": lambda a: f"Maybe:\n{_fence(a.wrong_draft)}No.\n</think>\n\n{_fence(a.whole)}",
    "thoughts in channels": lambda a: (
        f"<|channel|>analysis<|message|>{_fence(a.wrong_draft)}<|end|><|start|>assistant<|channel|>final<|message|>"
        + _fence(a.whole)
    ),
    "answer tags": lambda a: f"<thinking>{a.wrong_draft}</thinking>\n<answer>\n{a.whole}</answer>",
}
CONTINUED: dict[str, Callable[[Answer], str]] = {
    "continued": lambda a: a.body,
    "continued and overrun": lambda a: f"{a.body}\nint other(int y) {{\n    return y",
    "continued, fence closed": lambda a: f"{a.body.rstrip()}\n```\nThis does it.",
    "continued, last brace missing": lambda a: a.body.rstrip().removesuffix("};").rstrip().removesuffix("}"),
    "written anew": lambda a: a.whole,
    "written anew in a fence": lambda a: _fence(a.whole),
    "thoughts before": lambda a: f"Simple.\n</think>\n{a.body}",
}


def answers(task: Task) -> tuple[Answer, Answer]:
    """A right answer to a task and a wrong one."""
    wrong = negated_solution(task)
    return Answer(task, task.reference or "", wrong), Answer(task, wrong, wrong)


def read(style: str, answer: Answer) -> Program:
    """The program that our reader finds in an answer of this style."""
    chat = style in CHAT
    text = (CHAT if chat else CONTINUED)[style](answer)
    return answer.task.program(read_completion(answer.task, text, chat).code)


def read_last_fence(style: str, answer: Answer) -> Program:
    """The same by a regular expression: the last fence, or all where there is none, in place of what is asked for."""
    text = (CHAT if style in CHAT else CONTINUED)[style](answer)
    found = (LAST_FENCE.findall(text) or [text])[-1]
    before = answer.task.prompt.removesuffix(answer.head) if answer.task.entry_point in found else answer.task.prompt
    return answer.task.program(before + found)


def accuracy(
    tasks: Sequence[Task], reader: Callable[[str, Answer], Program], verifier: Verifier
) -> dict[str, tuple[float, float]]:
    """By style, the share of right answers that pass and of wrong ones that do not."""
    pairs = [answers(task) for task in tasks]
    read_as = {(style, n): [reader(style, one) for one in pair] for style in STYLES for n, pair in enumerate(pairs)}
    distinct = {_key(program): program for both in read_as.values() for program in both}
    passed = dict(zip(distinct, (result.passed for result in verifier.verify_many(distinct.values())), strict=True))
    table = {}
    for style in STYLES:
        verdicts = [[passed[_key(program)] for program in read_as[style, n]] for n in range(len(pairs))]
        table[style] = tuple(sum(is_right(v) for v in verdicts) / len(pairs) for is_right in (_passes, _fails))
    return table  # type: ignore[return-value]


def _that_can_be_passed(tasks: Sequence[Task], verifier: Verifier) -> list[Task]:
    """Those whose references are right as they are: some need a library that the machine may not have."""
    programs = [program for task in tasks if (program := reference_program(task)) is not None]
    results = verifier.verify_many(programs)
    return [task for task, result in zip(tasks, results, strict=True) if result.passed]


STYLES = (*CHAT, *CONTINUED)


def _key(program: Program) -> tuple[object, ...]:
    return tuple(tokens(str(program.code))), program.test


def _passes(verdicts: Sequence[bool]) -> bool:
    return verdicts[0]


def _fails(verdicts: Sequence[bool]) -> bool:
    return not verdicts[1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=BUILTIN, help="tasks with references, such as HumanEval-X")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--last-fence", action="store_true", help="also what a regular expression gives")
    call = parser.parse_args()
    chosen = evenly_spaced([task for task in load_tasks(call.source) if task.reference is not None], call.limit)
    readers = [read, *([read_last_fence] if call.last_fence else [])]
    with Verifier() as verifier:
        tasks = _that_can_be_passed(chosen, verifier)
        tables = [accuracy(tasks, reader, verifier) for reader in readers]
    print(
        f"{len(tasks)} of {len(chosen)} references, which pass here; right answers that pass, wrong ones that do not"
        + "; the last fence" * (len(tables) > 1)
    )
    for style in STYLES:
        print(f"{style:34}" + "".join(f"  {right:6.3f} {wrong:6.3f}" for right, wrong in (t[style] for t in tables)))
    for name, place in (("right", 0), ("wrong", 1)):
        print(f"{name:34}" + "".join(f"  {sum(row[place] for row in t.values()) / len(t):6.4f}" for t in tables))


if __name__ == "__main__":
    main()
