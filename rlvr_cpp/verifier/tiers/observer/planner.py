"""Find out how one task's tests are taken apart: once, from trusted text, and the same for every answer.

A reference says most: types are read off the observer that is compiled with it, round after round, until none is
unknown, and its own run has to pass. Without one, the task's declaration says the types, closed where it is left open.
Without either, names that the test leaves undeclared are what the candidate owes, and a value travels as what the test
compares it with. A plan never comes from an answer: else that would choose where the cut is.
"""

from __future__ import annotations

import dataclasses
import re
import threading
from functools import lru_cache
from pathlib import Path

from tree_sitter import Node

from rlvr_cpp.verifier.cpp.lexemes import OUTLINE, lexemes, node_text, parse, walk
from rlvr_cpp.verifier.cpp.signature import Function, read_prompt, read_trusted_unit
from rlvr_cpp.verifier.program import Program
from rlvr_cpp.verifier.tiers.observer.challenge import read_pure, read_rehearsal, rehearsal_of
from rlvr_cpp.verifier.tiers.observer.cut import TYPES, WORD, Cut, Owing, cut_test
from rlvr_cpp.verifier.tiers.observer.plan import Plan
from rlvr_cpp.verifier.tiers.observer.run import OBSERVER, build_apart, build_oracle, judge_by_plan
from rlvr_cpp.verifier.tiers.observer.scope import DECLARES, CannotSplit, declared_name, names_declared
from rlvr_cpp.verifier.tiers.observer.thunks import Learned, kept_parameters
from rlvr_cpp.verifier.tiers.observer.values import found_type
from rlvr_cpp.verifier.tiers.sealed import between
from rlvr_cpp.verifier.toolchain.bench import OWN_MAIN, open_bench
from rlvr_cpp.verifier.toolchain.built import Judged
from rlvr_cpp.verifier.toolchain.store import content_key
from rlvr_cpp.verifier.toolchain.workshop import Oracle, Workshop
from rlvr_sandbox import Finished, SandboxError

VERIFIER = Path(__file__).parents[2]
PLAN, TRUSTED, PLANNED, PLANNED_OBJECT = "plan.json", "rlvr_trusted.cpp", "rlvr_planned.cpp", "rlvr_planned.o"
ROUNDS = 14
TOOL_SECONDS = 20.0
QUOTED_INCLUDE = re.compile(r'(?m)^[ \t]*#[ \t]*include[ \t]*".*$')
STANDARD_INCLUDE = re.compile(r"(?m)^[ \t]*#[ \t]*include[ \t]*(<[^>\n]+>)")
UNDECLARED = re.compile(
    r"[‘'](?P<gnu>\w+)[’'] (?:was not declared|does not name a t|has not been declared)|"
    r"(?:undeclared identifier|unknown type name|no template named|undeclared template) '(?P<clang>\w+)'"
)
FOUND = re.compile(r"void rlvr::value_type<(\d+), (.*)>\(\)$")
AT_OBSERVER = re.compile(rf"{re.escape(OBSERVER)}:(\d+)")
THUNK = re.compile(r"static .* rlvr_(?:thunk|make)_(\d+)\(")
MISSING_HEADER = re.compile(r"fatal error: .*(?:No such file or directory|file not found)")
_BUILDING: dict[str, threading.Lock] = {}
_PASSING: dict[str, Plan] = {}
"""Plans that hold for this process alone."""


def plan_for(program: Program, workshop: Workshop) -> Plan:
    """The plan of a program's task, made once. Raises SandboxError where the machine failed."""
    toolchain = workshop.toolchain
    task = (program.test, program.tests_declared, program.declaration, program.reference, program.std)
    how = (OWN_TEXT, toolchain.compiler, toolchain.version, workshop.flags(program.std))
    key = content_key("observer", task, how)
    with _BUILDING.setdefault(key, threading.Lock()):
        plan = _kept(key, program, workshop) or _kept(key, program, workshop)
    if plan is None:
        raise SandboxError("sandbox: a plan could not be kept")
    return plan


def _kept(key: str, program: Program, workshop: Workshop) -> Plan | None:
    """The plan that is kept under a key, made where there is none. None where it is lost, or was of no use."""
    if key in _PASSING:
        return _PASSING[key]
    entry = workshop.store.make(key, lambda draft: _write(draft, key, _made(program, workshop)))
    try:
        return _PASSING.get(key) if entry is None else _read(entry / PLAN)
    except (OSError, ValueError, TypeError, KeyError):  # cut off, or by a process that still ran another version
        workshop.store.drop(key)
        return None


def _text_of(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".h", ".cpp"))
    return content_key([path.read_bytes() for path in files])


OWN_TEXT = _text_of(VERIFIER)  # read when the code is: it may be replaced while a process runs
"""What plans are made by and of: one that an earlier version of it made must not be found."""


def _write(draft: Path, key: str, plan: Plan) -> bool:
    """Keep a plan, unless what is in its way may be installed tomorrow."""
    if MISSING_HEADER.search(plan.reason):
        _PASSING[key] = plan
        return False
    (draft / PLAN).write_text(plan.to_json())
    return True


@lru_cache(maxsize=2048)
def _read(path: Path) -> Plan:
    return Plan.from_json(path.read_text())


def _made(program: Program, workshop: Workshop) -> Plan:
    try:
        return _Planner(program, workshop).plan()
    except CannotSplit as why:
        return Plan(reason=" ".join(str(why).split()))


class _Planner:
    """Plans one test."""

    def __init__(self, program: Program, workshop: Workshop) -> None:
        self.program, self.workshop = program, workshop
        self.test = program.test or ""
        self.trusted = program.reference or closed(program.declaration)
        trusted = walk(parse((self.trusted or "").encode(errors="replace")))
        declared = (part for part in trusted if part.type == "function_declarator")
        self.learned = Learned(kept=kept_parameters(declared))

    def plan(self) -> Plan:
        """The plan. Raises CannotSplit."""
        owing = self._owing()
        if self.program.reference is not None:
            owing = dataclasses.replace(owing, draws=())
        cut = self._settled(owing)
        if cut.challenged and owing.draws is not None and not cut.quoted:
            cut = self._settled(dataclasses.replace(owing, draws=self._rehearsed(cut)))
        if (plan := self._proven(cut)) is None:
            raise CannotSplit("the reference does not pass when the test is taken apart")
        return plan

    def _rehearsed(self, cut: Cut) -> tuple[int, ...]:
        """By which draws the reference bears to be asked its own comparisons. Raises CannotSplit."""
        plan = _plan_of(dataclasses.replace(cut, oracle=rehearsal_of(cut.oracle, cut.challenged)))
        judged = self._judged(plan)
        if not (draws := read_rehearsal(judged.marker.decode(errors="replace"))):
            raise CannotSplit("the reference does not come to the end of the test")
        return draws

    def _owing(self) -> Owing:
        """What the test is taken apart by; whether types have to be guessed is learned on the way."""
        if self.trusted is not None:
            return owing_by(self.test, self.trusted)
        undeclared = self._undeclared()
        self.learned.guesses = bool(undeclared)
        return Owing(frozenset(undeclared | _prototypes_in(self.test)))

    def _undeclared(self) -> set[str]:
        """The names that the test uses and does not declare, as the compiler tells them."""
        alone = QUOTED_INCLUDE.sub("", self.test)
        with self.workshop.scratch({PLANNED: alone}) as folder:
            said = self._compile(folder, "-fsyntax-only").stderr.decode(errors="replace")
        undeclared = {match["gnu"] or match["clang"] for match in UNDECLARED.finditer(said)}
        return undeclared - {"std"} - _local_names(self.test)  # a variable of an unknown type is reported, too

    def _compile(self, folder: Path, *flags: str) -> Finished:
        limit = "-ferror-limit=0" if self.workshop.toolchain.is_clang else "-fmax-errors=0"
        chosen = self.workshop.trusted_flags(self.program.std)
        return self.workshop.compile(folder, ["-w", *chosen, limit, PLANNED, *flags])

    def _settled(self, owing: Owing) -> Cut:
        """The cut in which every type is known. Raises CannotSplit."""
        compiles = False
        for _ in range(ROUNDS):
            cut = cut_test(self.test, owing, self.learned)
            if self.learned.guesses or (compiles and not cut.probes):
                return cut
            undone = between(self.trusted or "", cut.observer)
            main = f'#define main {OWN_MAIN}\n#include "{TRUSTED}"\n#undef main\n{undone}#include "{OBSERVER}"\n'
            files = {TRUSTED: self.trusted or "", OBSERVER: cut.observer, PLANNED: main}
            with self.workshop.scratch(files) as folder:
                done = self._compile(folder, "-c", "-o", PLANNED_OBJECT)
                compiles = done.returncode == 0
                if not compiles:
                    self._learn_from(done.stderr.decode(errors="replace"), cut)
                    continue
                self._learn_types(folder, cut)
        raise CannotSplit("the types of the candidate's values do not settle")

    def _learn_types(self, folder: Path, cut: Cut) -> None:
        listed = self.workshop.run_tool(folder, [self.workshop.tool("nm"), "-C", PLANNED_OBJECT], TOOL_SECONDS)
        for line in listed.stdout.decode(errors="replace").splitlines():
            if match := FOUND.search(line):
                self.learned.types.update(dict.fromkeys(cut.places[int(match[1])], found_type(match[2])))

    def _learn_from(self, said: str, cut: Cut) -> None:
        """What the compiler refuses in the observer needs its literals in place, or changes what it is given."""
        lines = cut.observer.splitlines()
        hits = [lines[int(match[1]) - 1] for match in AT_OBSERVER.finditer(said) if int(match[1]) <= len(lines)]
        thunks = {int(match[1]) for line in hits if (match := THUNK.match(line)) and "rlvr_in.get" in line}
        places = {place for thunk in thunks for place in cut.places.get(thunk, ())}
        if new := places - self.learned.unlifted:
            self.learned.unlifted |= new
        elif new := places - self.learned.changed:
            self.learned.changed |= new
        else:
            first = next((line for line in said.splitlines() if "error" in line), "?")
            raise CannotSplit(f"what is asked of the candidate does not compile: {first[:200]}")

    def _proven(self, cut: Cut) -> Plan | None:
        """The plan, by which the reference passes; None where it does not. Raises CannotSplit."""
        plan = dataclasses.replace(_plan_of(cut), apart=self._apart(cut))
        if self.program.reference is None or cut.quoted:
            self._oracle(plan)
            return plan
        verdict = self._judged(plan).verdict
        if verdict is None or verdict.status != "ok":
            return None
        return dataclasses.replace(plan, total=verdict.total)

    def _oracle(self, plan: Plan) -> Oracle:
        oracle = build_oracle(self.program.std, self.workshop, plan)
        if oracle is None:
            raise CannotSplit("the test does not compile when it is taken apart")
        return oracle

    def _judged(self, plan: Plan) -> Judged:
        """What becomes of the reference. Raises CannotSplit."""
        oracle = self._oracle(plan)
        with open_bench(dataclasses.replace(self.program, code=self.program.reference or ""), self.workshop) as bench:
            return judge_by_plan(bench, plan, oracle)

    def _apart(self, cut: Cut) -> str:
        """The observer as a unit that needs no candidate; empty where there is none."""
        whole = f"{_prototypes(self.program.declaration)}\n{cut.observer}"
        if cut.quoted or self.learned.guesses or names_of_types(self.trusted) & set(WORD.findall(cut.observer)):
            return ""
        return whole if build_apart(self.program.std, self.workshop, whole) is not None else ""


def _plan_of(cut: Cut) -> Plan:
    """What a cut says of its plan."""
    return Plan(
        oracle=cut.oracle,
        observer=cut.observer,
        runtime=cut.runtime,
        quoted=cut.quoted,
        self_judged=cut.self_judged,
    )


def why_in_process(program: Program) -> str:
    """Why a program's test cannot be taken apart, as far as trusted text alone says it; empty where it can be.

    What a compiler may still find is told by the result of the first program that is judged.
    """
    trusted = program.reference or closed(program.declaration)
    if trusted is None or program.test is None:
        return ""
    try:
        cut_test(program.test, owing_by(program.test, trusted), Learned())
    except CannotSplit as why:
        return " ".join(str(why).split())
    return ""


def owing_by(test: str, trusted: str) -> Owing:
    """What a test is taken apart by, where trusted text defines what it owes."""
    own = {function.name for function in read_trusted_unit(test).defined}
    prototypes = _prototypes_in(test)
    given = names_declared(parse(test.encode(errors="replace")).children) - prototypes
    nodes = parse(trusted.encode(errors="replace")).children
    callees = frozenset({function.name for function in read_trusted_unit(trusted).prototypes} & own)
    templates = names_of_types(trusted, "template_declaration")
    owed, headers = frozenset((names_declared(nodes) - given) | prototypes), tuple(STANDARD_INCLUDE.findall(trusted))
    return Owing(owed, callees, templates, headers, read_pure(trusted))


def _prototypes_in(test: str) -> set[str]:
    """The functions and function templates that a test declares and does not define."""
    unit = read_trusted_unit(test)
    declared = {function.name for function in unit.prototypes} - {function.name for function in unit.defined}
    templates = [node for node in parse(test.encode(errors="replace")).children if node.type == "template_declaration"]
    return declared | (_names_of(templates, "declaration") - _names_of(templates, "function_definition"))


def _names_of(templates: list[Node], kind: str) -> set[str]:
    """The function templates among these that are declared, or defined."""
    found = (child for node in templates for child in node.children if child.type == kind)
    return {declared_name(one.child_by_field_name("declarator")) for one in found}


def _local_names(test: str) -> set[str]:
    """The names that the test gives to variables and parameters."""
    parts = (part for part in walk(parse(test.encode(errors="replace"))) if part.type in DECLARES)
    return {declared_name(one) for part in parts for one in part.children_by_field_name("declarator")}


def _prototypes(declaration: str | None) -> str:
    """What a declaration says without opening anything."""
    prompt = read_prompt(declaration) if declaration is not None else None
    if prompt is None:
        return ""
    return f"{prompt.context}\n{_prototype(prompt.function)};" if prompt.function is not None else prompt.context


@lru_cache(maxsize=512)
def names_of_types(text: str | None, *kinds: str) -> frozenset[str]:
    """The classes and class templates that a text defines, or those that stand in nodes of these kinds."""
    nodes = parse((text or "").encode(errors="replace")).children
    found = {
        node_text(inner.child_by_field_name("name"))
        for node in nodes
        if not kinds or node.type in kinds
        for inner in (node, *node.children)
        if inner.type in TYPES
    }
    return frozenset(found - {""})


def _prototype(function: Function) -> str:
    parameters = ", ".join(p.type + (f" = {p.default}" if p.default else "") for p in function.parameters)
    return f"{function.result} {function.name}({parameters})"


def closed(declaration: str | None) -> str | None:
    """A declaration with everything closed that it leaves open; functions that are left open end the program."""
    if declaration is None:
        return None
    depth = 0
    for lexeme in lexemes(declaration, OUTLINE):
        if lexeme.kind == "brace":
            depth += 1 if lexeme.text == "{" else -1
    if depth <= 0:
        return declaration
    return f"{declaration}\n__builtin_trap(); }}{' };' * (depth - 1)}\n"
