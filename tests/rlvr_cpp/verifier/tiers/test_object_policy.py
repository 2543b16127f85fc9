"""The object policy rejects what attacks need and lets every honest program through."""

import platform
import shutil
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_cpp.verifier.tiers.object_policy import (
    MalformedObject,
    confirms_syscall,
    objdump_command,
    read_object,
    suspicious_opcodes,
    violations,
)

COMPILERS = [
    "g++",
    pytest.param("clang++", marks=pytest.mark.skipif(not shutil.which("clang++"), reason="clang++ is not installed")),
]
OPTIMISATIONS = ["-O0", pytest.param("-O2", marks=pytest.mark.slow)]
"""Programs are compiled with the first."""
needs_x86 = pytest.mark.skipif(
    platform.machine() != "x86_64" or not shutil.which("objdump"), reason="needs an x86-64 machine with objdump"
)


@pytest.fixture
def compiled(compilers):
    """An object file's bytes, from a text; nothing is ever run."""

    def compile_text(code, compiler="g++", *flags):
        return compilers.object(compiler, code, "-std=c++17", "-w", *flags)

    return compile_text


HONEST = {
    "streams": """
#include <bits/stdc++.h>
using namespace std;
int cnt, total, end_, index_[10], next, count_, hash_, y2, status; bool used[100];
ostream& operator<<(ostream& o, const vector<int>& v) { for (int x : v) o << x << ' '; return o; }
vector<int> operator+(vector<int> a, const vector<int>& b) { a.insert(a.end(), b.begin(), b.end()); return a; }
struct P { int x, y; bool operator<(const P& o) const { return x < o.x; } };
bool operator==(const P& a, const P& b) { return a.x == b.x && a.y == b.y; }
static bool operator!=(const P& a, const P& b) { return !(a == b); }
vector<int> solve(vector<int> v) {
    ios::sync_with_stdio(false); cin.tie(nullptr);
    map<string, vector<P>> m; m["a"].push_back({1, 2});
    set<pair<int, int>> s{{1, 2}}, t = s;
    if (m["a"][0] != P{1, 2} || !(s == t) || !(v == v) || string("a") == "b") exit(2);
    if (v.size() > 1000) abort();
    cout << v + v << regex_match("abc", regex("a.c")) << vector<string>{"x"}[0] << endl;
    return v;
}""",
    "threads": """
#include <condition_variable>
#include <future>
#include <mutex>
#include <random>
#include <chrono>
#include <thread>
#include <vector>
std::mutex m; std::condition_variable cv; thread_local int t = 3;
int solve(int k) {
    std::vector<std::thread> v;
    for (int i = 0; i < k; ++i) v.emplace_back([i] { std::lock_guard<std::mutex> lock(m); t += i; cv.notify_all(); });
    for (auto& x : v) x.join();
    auto f = std::async(std::launch::async, [k] { return k * 2; });
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::mt19937 g(std::random_device{}());
    return f.get() + static_cast<int>(g() % 3);
}""",
    "std templates for a type of its own": """
#include <functional>
#include <string>
#include <unordered_map>
struct Key { int a; std::string b; bool operator==(const Key& o) const; };
bool Key::operator==(const Key& o) const { return a == o.a && b == o.b; }
namespace std {
template <> struct hash<Key> { size_t operator()(const Key& k) const; };
size_t hash<Key>::operator()(const Key& k) const { return hash<string>()(k.b) ^ k.a; }
}
namespace { struct L { int v; }; bool operator<(const L& a, const L& b) { return a.v < b.v; } }
int solve() { std::unordered_map<Key, int> m; m[Key{1, "a"}] = 2; return m.size() + (L{1} < L{2}); }""",
    "C functions": """
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
struct Early { Early() { std::setbuf(stdout, nullptr); } ~Early() {} } early;
__attribute__((constructor)) static void prepare() {}
extern "C" int helper(int x) { return x; }
class Pool { public: static void* operator new(std::size_t n) { return std::malloc(n); }
             static void operator delete(void* p) { std::free(p); } int x[3]; };
int solve(const char* s) {
    assert(s); std::atexit([] {});
    char buffer[9]; std::snprintf(buffer, sizeof buffer, "%s", s); std::fprintf(stderr, "%zu", std::strlen(buffer));
    Pool* p = new Pool; ::new (p) Pool; delete p; delete[] new int[3];
    return helper(std::atoi(buffer));
}""",
    "exceptions and inheritance": """
#include <any>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <variant>
struct Base { virtual ~Base() {} virtual int f() const = 0; };
struct Derived : Base { int f() const override; };
int Derived::f() const { return 4; }
struct Error : std::runtime_error { using std::runtime_error::runtime_error; };
template class std::unique_ptr<int>;
int solve(int x) {
    std::shared_ptr<Base> b = std::make_shared<Derived>();
    try { if (x > 3) throw Error("x"); if (x == 2) throw std::out_of_range("y"); }
    catch (const std::exception& e) { return e.what()[0]; }
    std::variant<int, std::string> v = "a"; static int calls = 0;
    return std::visit([](auto&& t) -> int { return sizeof t; }, v) + (std::optional<int>(1) == 2) + ++calls + b->f();
}""",
}


@pytest.mark.parametrize("optimisation", OPTIMISATIONS)
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", HONEST)
def test_an_honest_object_breaks_no_rule(compiled, name, compiler, optimisation):
    object_file = compiled(HONEST[name], compiler, optimisation)
    assert violations(object_file) == ()


def test_waiting_on_an_atomic_breaks_no_rule(compiled):
    object_file = compiled("#include <atomic>\nvoid solve(std::atomic<int>& x) { x.wait(0); }", "g++", "-std=c++20")
    assert "syscall" in read_object(object_file).undefined()
    assert violations(object_file) == ()


ATTACKS = {
    "main": ("int main() {}", "main, which belongs to the harness"),
    "a weak main": ("__attribute__((weak)) int main() {}", "main, which belongs to the harness"),
    "_start": ('extern "C" void _start() {}', "_start, which belongs to the harness"),
    "printf": ('extern "C" int printf(const char*, ...) { return 0; }', "printf, which belongs to the C"),
    "a weak printf": (
        'extern "C" __attribute__((weak)) int printf(const char*, ...) { return 0; }',
        "printf, which belongs to the C",
    ),
    "memcmp by a label": (
        'int mine(const void*, const void*, unsigned long) __asm__("memcmp"); '
        "int mine(const void*, const void*, unsigned long) { return 0; }",
        "memcmp, which belongs to the C",
    ),
    "a version of write": (
        'extern "C" long mine() { return 0; } __asm__(".symver mine, write@GLIBC_2.2.5");',
        "write, which belongs",
    ),
    "assert's reporter": ('extern "C" void __assert_fail() {}', "__assert_fail, which belongs to the C"),
    "exception run time": ('extern "C" void __cxa_throw() {}', "__cxa_throw, which belongs to the C"),
    "sanitizer options": (
        'extern "C" const char* __asan_default_options() { return ""; }',
        "__asan_default_options, which belongs",
    ),
    "stdout": ('extern "C" { void* stdout; }', "stdout, which belongs"),
    "operator new": ("void* operator new(unsigned long) { return nullptr; }", "allocation function _Znwm"),
    "operator delete": ("void operator delete(void*) noexcept {}", "allocation function _ZdlPv"),
    "std::operator== of vectors, strong": (
        "#include <vector>\nnamespace std { template <> bool operator==(const vector<int>&, const vector<int>&)"
        " { return true; } }",
        "_ZSteqIiSaIiEEbRKSt6vectorIT_T0_ES6_, which belongs to the standard library",
    ),
    "std::operator== of vectors, overloaded": (
        "#include <vector>\nnamespace std { inline bool operator==(const vector<int>&, const vector<int>&)"
        " { return true; } }\nbool solve(std::vector<int> a) { return a == a; }",
        "_ZSteqRKSt6vectorIiSaIiEES3_, which belongs to the standard library",
    ),
    "a member of std::string": (
        'extern "C" __attribute__((weak)) int mine() __asm__("_ZNKSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEE'
        '7compareEPKc"); extern "C" int mine() { return 0; }',
        "which belongs to the standard library",
    ),
    "a global comparison": (
        "#include <vector>\nbool operator==(const std::vector<int>&, const std::vector<int>&) { return true; }",
        "_ZeqRKSt6vectorIiSaIiEES3_, a comparison",
    ),
    "a global comparison, static": (
        "#include <string>\nstatic bool operator!=(const std::string&, const char*) { return false; }"
        "\nbool solve(std::string s) { return s != std::string().c_str(); }",
        "a comparison of values that are not of its own types",
    ),
    "a global comparison, unnamed namespace": (
        "#include <string>\nnamespace { bool operator<(const std::string&, const char*) { return false; } }"
        "\nbool solve(std::string s) { return s < std::string().c_str(); }",
        "a comparison of values that are not of its own types",
    ),
    "a global comparison, template": (
        "#include <vector>\ntemplate <class T> bool operator==(const std::vector<T, std::allocator<T>>&,"
        " const std::vector<T, std::allocator<T>>&) { return true; }\nbool solve(std::vector<int> a) { return a == a; }",
        "a comparison of values that are not of its own types",
    ),
    "the earliest constructor": (
        '__attribute__((section(".preinit_array"), used)) static void (*p)() = nullptr;',
        ".preinit_array",
    ),
    "an early constructor": ("__attribute__((constructor(101))) void early() {}", ".init_array."),
    "init code": ('__asm__(".section .init\\nnop\\n.text");', ".init, whose code runs"),
    "a resolver": (
        'extern "C" { void f() {} void (*pick())() { return f; } void g() __attribute__((ifunc("pick"))); }',
        "chosen by a resolver",
    ),
    "writable code": ('__asm__(".section .mine,\\"awx\\"\\nnop\\n.text");', "both writable and executable"),
    "an executable stack": ('__asm__(".section .note.GNU-stack,\\"x\\"\\n.text");', "both writable and executable"),
    "the verifier's names": ('extern "C" void rlvr_done(int); void solve() { rlvr_done(0); }', "it uses rlvr_done"),
    "wrapped main": ('extern "C" int __real_main(); int solve() { return __real_main(); }', "it uses __real_main"),
}


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_named(compiled, name, compiler):
    code, sentence = ATTACKS[name]
    found = violations(compiled(code, compiler))
    assert any(sentence in reason for reason in found), found


DEFEATING = """
mprotect mmap dlsym dlopen dl_iterate_phdr ptrace process_vm_writev fork vfork clone execve posix_spawn system
read write pread64 writev dup2 dup3 fcntl close fdopen dprintf sendfile splice open open64 openat __open_2
__read_chk __libc_fork __dprintf_chk signal sigaction __sigaction longjmp __longjmp_chk quick_exit _exit _Exit kill
_ZSt13set_terminatePFvvE main ssignal sigignore siginterrupt gsignal sighold sigrelse sigset sigvec bsd_signal
sysv_signal __sysv_signal __sigaction __libc_sigaction sigprocmask __xpg_sigpause fileno fileno_unlocked freopen64
"""
STREAM_INTERNALS = "_IO_file_attach _IO_fdopen _IO_list_all _IO_new_file_init"
HARMLESS = "exit abort atexit syscall fopen printf nanosleep pthread_create raise setvbuf stdout stderr fflush _IO_putc"


@pytest.mark.parametrize("call", DEFEATING.split())
def test_an_import_that_can_defeat_the_seal_is_named(compiled, call):
    code = f'extern "C" void mine() __asm__("{call}"); void solve() {{ mine(); }}'
    assert any(f"it uses {call}, which" in reason for reason in violations(compiled(code)))


@pytest.mark.parametrize("name", STREAM_INTERNALS.split())
def test_an_import_of_the_streams_inner_parts_is_named(compiled, name):
    code = f'extern "C" void mine() __asm__("{name}"); void solve() {{ mine(); }}'
    assert violations(compiled(code)) == (f"it uses {name}, a part of the C streams that no header offers",)


@pytest.mark.parametrize("call", HARMLESS.split())
def test_an_import_of_honest_programs_is_let_in(compiled, call):
    code = f'extern "C" void mine() __asm__("{call}"); void solve() {{ mine(); }}'
    assert violations(compiled(code)) == ()


def test_what_the_harness_names_itself_is_not_held_against_the_candidate(compiled):
    harness = "#include <csignal>\nint main() { std::signal(2, nullptr); }"
    object_file = compiled(harness)
    assert len(violations(object_file)) == 2
    assert violations(object_file, harness) == ()
    assert violations(compiled(harness + '\nextern "C" int printf(const char*, ...) { return 0; }'), harness)


SANITIZED = """#include <iostream>
#include <map>
static std::map<int, int> table{{1, 2}};
int global = 3;
struct Tally { int total = 0; void add(int x) { total += table[x]; } };
int solve(int x) { Tally t; t.add(x); int a[2] = {x, t.total}; std::cout << a[x & 1]; return global / x; }
"""


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(
    "flag", ["-fsanitize=address,undefined", pytest.param("-fsanitize=thread", marks=pytest.mark.slow)]
)
def test_a_sanitizer_of_ours_breaks_no_rule_and_hides_nothing(compiled, compiler, flag):
    assert violations(compiled(SANITIZED, compiler, "-fPIC", flag)) == ()
    early = "__attribute__((constructor(99))) static void early() {}\n"
    taken = "#include <csignal>\nvoid take() { struct sigaction kept; sigaction(63, nullptr, &kept); }\n"
    for attack, word in ((early, "init_array"), (taken, "sigaction")):
        assert any(word in reason for reason in violations(compiled(attack + SANITIZED, compiler, "-fPIC", flag)))


def test_a_compressed_section_is_named(small_object):
    damaged = bytearray(small_object)
    (headers,) = struct.unpack_from("<Q", damaged, 40)
    damaged[headers + 64 + 9] |= 0x08  # the flags of the first real section
    assert any("is compressed" in reason for reason in violations(bytes(damaged)))


def test_an_object_of_endless_symbols_is_malformed(compiled):
    assembly = "\n".join(f"s{i} = {i}" for i in range(100_001))
    with pytest.raises(MalformedObject, match="more than 100000 symbols"):
        read_object(compiled(f'__asm__(R"({assembly})");'))


def disassembly(object_file, tmp_path):
    (tmp_path / "b.o").write_bytes(object_file)
    done = subprocess.run(objdump_command("b.o"), cwd=tmp_path, capture_output=True, text=True, check=True)
    return done.stdout


@needs_x86
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(
    "assembly",
    [
        "syscall",
        "int $0x80",
        "sysenter",
        ".byte 0x0f, 0x05",
        "jmp 1f; .byte 0xe8; 1: syscall; nop; nop; nop",
        "lea 1f(%rip), %rax; jmp *%rax; .byte 0x48, 0xb8; 1: syscall; nop; nop; nop; nop; nop; nop",
        ".byte 0x06; syscall",
    ],
)
def test_a_system_call_is_found_even_where_bytes_hide_it(compiled, tmp_path, assembly, compiler):
    object_file = compiled(f'void solve() {{ __asm__ volatile("{assembly}"); }}', compiler)
    assert suspicious_opcodes(object_file)
    assert confirms_syscall(disassembly(object_file, tmp_path))


@needs_x86
@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_constant_with_the_bytes_of_a_system_call_is_only_suspicious(compiled, tmp_path, compiler):
    code = 'extern "C" long syscall(long, ...); long solve(long x) { return syscall(x) ^ 0x0f050f050f050f05; }'
    object_file = compiled(code, compiler)
    assert suspicious_opcodes(object_file)
    assert not confirms_syscall(disassembly(object_file, tmp_path))


@needs_x86
@pytest.mark.parametrize("optimisation", OPTIMISATIONS)
def test_an_honest_disassembly_hides_nothing(compiled, tmp_path, optimisation):
    object_file = compiled(HONEST["streams"], "g++", optimisation)
    assert not confirms_syscall(disassembly(object_file, tmp_path))


@pytest.mark.skipif(not shutil.which("clang++"), reason="clang++, which compiles for aarch64, is not installed")
@pytest.mark.parametrize(
    ("code", "system_call", "rejected"),
    [
        ("int solve(int x) { return x * 3; }", False, False),
        ('void solve() { __asm__ volatile("svc #0"); }', True, False),
        ('extern "C" int printf(const char*, ...) { return 0; }', False, True),
    ],
)
def test_aarch64_objects_are_read_as_well(compiled, code, system_call, rejected):
    object_file = compiled(code, "clang++", "--target=aarch64-linux-gnu", "-ffreestanding")
    assert suspicious_opcodes(object_file) is system_call
    assert bool(violations(object_file)) is rejected


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_a_violation(data):
    assert violations(data)
    assert suspicious_opcodes(data)


@pytest.fixture(scope="module")
def small_object(tmp_path_factory):
    folder = tmp_path_factory.mktemp("object")
    (folder / "a.cpp").write_text("int x; static int f() { return x; } int solve() { return f(); }")
    subprocess.run(["g++", "-c", "a.cpp"], cwd=folder, check=True)
    return (folder / "a.o").read_bytes()


@given(st.data())
def test_a_damaged_object_never_raises(small_object, data):
    damaged = bytearray(small_object)
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    assert isinstance(violations(cut), tuple)
    assert suspicious_opcodes(cut) in (True, False)


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (40, "<Q", 1 << 63),
        (40, "<Q", 3),
        (58, "<H", 63),
        (60, "<H", 0xFFFF),
        (62, "<H", 0xFFFE),
        (16, "<H", 2),
        (4, "B", 1),
    ],
)
def test_a_header_that_lies_is_malformed(small_object, offset, form, value):
    damaged = bytearray(small_object)
    struct.pack_into(form, damaged, offset, value)
    with pytest.raises(MalformedObject):
        read_object(bytes(damaged))
    assert violations(bytes(damaged))[0].startswith("it is not a sound object file")


def test_the_names_of_an_object_are_told_apart(compiled):
    read = read_object(
        compiled("int given(int); static int own() { return 1; } int solve(int x) { return given(x) + own(); }")
    )
    assert read.defined() == {"_Z5solvei"}
    assert read.undefined() == {"_Z5giveni"}
