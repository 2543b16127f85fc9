"""What a candidate's object file must not hold if it is to share a process with its harness.

The compiler has had the last word on macros, comments and line splices, so the object says what the text only hints
at: which names it defines, what it imports, which sections run early. The ELF file is read here, with bounds checked
everywhere: the candidate writes it (inline assembly reaches every byte), so any bytes give an answer and none raises.

Rejected is what honest programs do not do. `exit`, `abort`, `atexit` and `syscall` (which `std::atomic::wait` uses) are
let in, because the seal (`sealed.py`) makes them harmless. The policy narrows what an attack can use; it is no proof:
code in the same process can still write to the harness's memory. An oracle in another process is.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

X86_64, AARCH64 = 62, 183
RELOCATABLE, SHARED = 1, 3
SYMBOL_TABLE, NO_BITS, PREINIT_ARRAY = 2, 8, 16
WRITABLE, EXECUTABLE, GROUPED, COMPRESSED = 0x1, 0x4, 0x200, 0x800
MAX_SYMBOLS = 100_000
POINTER = 8
BINDINGS = {0: "local", 1: "global", 2: "weak", 10: "unique"}
KINDS = {0: "none", 1: "object", 2: "function", 3: "section", 4: "file", 5: "common", 6: "tls", 10: "ifunc"}

EARLY_SECTION = re.compile(
    r"\.(preinit_array.*|(init|fini)_array\.\d+|[cd]tors.*|init|fini|interp|dynamic|gnu\.lto_.*)"
)
SANITIZERS_OWN = re.compile(r"\.(init|fini)_array\.(00099|0|1)")
"""Where a compiler puts the one function that starts a sanitizer, or ends it, in each object that is built with one."""
STARTS_A_SANITIZER = frozenset({"__asan_init", "__tsan_init", "__msan_init", "__hwasan_init"})
SEAL_NAME = re.compile(r"rlvr_|__wrap_|__real_")
SANITIZER = re.compile(r"__(a|l|m|t|ub|hwa)san_|__sanitizer_")
# How an undecorated name of the implementation begins; `_Z` begins every C++ name.
RUNTIME_FUNCTION = re.compile(r"_[A-Y_]")
RUNTIME_VARIABLE = re.compile(
    r"__?(IO|Unwind|ITM|dl|libc|cxa|gxx|malloc|free|realloc|memalign|after_morecore|stack_chk|dso|printf|environ)(_|$)"
    r"|_r_debug|environ|std(in|out|err)$"
)
# The headers of old C libraries make `_IO_putc` of `putc`.
STREAM_INTERNAL = re.compile(r"_IO_(?!(putc|getc|peekc_locked)$)")
ENTRY = frozenset({"main", "_start", "__libc_start_main", "_init", "_fini"})
PLACEMENT = frozenset({"_ZnwmPv", "_ZnamPv", "_ZdlPvS_", "_ZdaPvS_"})
ALLOCATION = re.compile(r"_Z(nw|na|dl|da)")
STD_NAME = re.compile(r"_Z(T[VTIS]|GV)?(N[VKrRO]*)?S[tabsiod]")
COMPARISON = re.compile(r"_Z(?:L?|N12_GLOBAL__N_1L?)(eq|ne|lt|le|gt|ge|ss)")
# The library compares these by templates, whose names have an `I` after the operator.
STD_COMPARISON = re.compile(
    r"_ZSt(eq|ne|lt|le|gt|ge|ss)R?K?(Ss|(NSt7__cxx11|St)(12basic_string|6vector|5array|5deque|4list|4pair|5tuple"
    r"|3map|3set|8multimap|8multiset|8optional|7variant|1[38]unordered_(multi)?(map|set))I)"
)

LIBRARY_NAMES = """
printf fprintf sprintf snprintf vprintf vfprintf vsprintf vsnprintf dprintf vdprintf asprintf vasprintf puts fputs
putchar putc fputc fwrite fread fflush fclose fopen fdopen freopen fseek ftell rewind setvbuf setbuf perror scanf
fscanf sscanf vscanf vfscanf vsscanf getchar getc fgetc fgets ungetc getline getdelim remove rename tmpfile
fwrite_unlocked fputs_unlocked putchar_unlocked puts_unlocked fflush_unlocked fileno feof ferror clearerr malloc
calloc realloc free cfree memalign aligned_alloc posix_memalign valloc pvalloc malloc_usable_size reallocarray exit
abort atexit at_quick_exit quick_exit on_exit raise signal sigaction sigaltstack kill longjmp setjmp siglongjmp memcmp
memcpy memmove memset memchr memrchr mempcpy memmem rawmemchr bcmp bcopy bzero strcmp strncmp strcasecmp strncasecmp
strcoll strxfrm strlen strnlen strcpy strncpy stpcpy stpncpy strcat strncat strchr strrchr strstr strspn strcspn
strpbrk strtok strtok_r strdup strndup strerror strsep strverscmp wcslen wcscmp wcsncmp wcscpy wcscat wcschr wmemcmp
wmemcpy wmemset wmemmove wmemchr strtol strtoll strtoul strtoull strtod strtof strtold atoi atol atoll atof qsort
bsearch rand srand random srandom abs labs llabs div ldiv lldiv fabs fabsf fabsl sqrt sqrtf sqrtl cbrt pow powf powl
exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan atan2 sinh cosh tanh floor ceil round trunc rint
nearbyint lround llround fmod remainder fmin fmax fma hypot ldexp frexp modf copysign isnan isinf finite isalpha
isdigit isalnum isspace isupper islower ispunct isprint iscntrl isxdigit isgraph toupper tolower getenv setenv
unsetenv putenv secure_getenv system popen pclose read write pread pwrite readv writev open openat creat close dup
dup2 dup3 fcntl ioctl lseek pipe pipe2 select poll fork vfork clone execve execv execvp waitpid wait getpid gettid
syscall mmap munmap mprotect mremap brk sbrk dlopen dlsym dlclose dlerror dladdr dl_iterate_phdr ptrace prctl
sched_yield sched_getaffinity nanosleep usleep sleep clock clock_gettime clock_nanosleep gettimeofday time difftime
mktime localtime gmtime strftime localtime_r gmtime_r getrandom getentropy isatty setlocale localeconv newlocale
uselocale freelocale nl_langinfo iconv iconv_open gettext pthread_create pthread_join pthread_detach pthread_self
pthread_exit pthread_once pthread_mutex_lock pthread_mutex_unlock pthread_mutex_trylock pthread_mutex_init
pthread_mutex_destroy pthread_cond_wait pthread_cond_signal pthread_cond_broadcast pthread_cond_timedwait
pthread_cond_clockwait pthread_key_create pthread_setspecific pthread_getspecific pthread_rwlock_rdlock
pthread_rwlock_wrlock pthread_rwlock_unlock sem_init sem_wait sem_post
"""
LIBRARY = frozenset(LIBRARY_NAMES.split())

# A heading says what is wrong with the imports below it; leading underscores and endings (`_chk`, `64`) do not matter.
IMPORTS = """
changes what memory may be executed or written:
    mprotect pkey_mprotect mmap mremap remap_file_pages memfd_create shm_open shmat
looks up or loads code of its own choice:
    dlopen dlmopen dlsym dlvsym dladdr dladdr1 dlinfo dl_iterate_phdr getauxval _r_debug _Unwind_ForcedUnwind
    __register_frame __register_frame_info __register_frame_table
reaches into another process or starts one:
    ptrace process_vm_readv process_vm_writev fork _Fork vfork clone clone2 clone3 execve execv execvp execvpe
    execl execle execlp execveat fexecve posix_spawn posix_spawnp system popen kill killpg tgkill sigqueue
    pthread_sigqueue prctl arch_prctl seccomp personality setns unshare bpf
uses descriptors past the C and C++ streams:
    read write pread pwrite readv writev preadv pwritev preadv2 pwritev2 dup dup2 dup3 fcntl close close_range
    closefrom fdopen freopen dprintf vdprintf sendfile splice tee vmsplice copy_file_range open openat openat2
    creat ioctl pipe pipe2 socket socketpair sendmsg recvmsg fcloseall fopencookie fileno fileno_unlocked
installs or reads a handler or jumps out of a call:
    signal bsd_signal sysv_signal ssignal gsignal sigaction rt_sigaction sigaltstack sigstack sigset sigvec sigignore
    siginterrupt sighold sigrelse sigpause xpg_sigpause sigblock sigsetmask siggetmask sigprocmask pthread_sigmask
    sigreturn signalfd longjmp siglongjmp longjmp_chk setcontext swapcontext makecontext
    _ZSt13set_terminatePFvvE _ZSt14set_unexpectedPFvvE
ends the process past the seal:
    _exit _Exit quick_exit at_quick_exit on_exit
belongs to the harness or tells where parts of the program are in memory:
    main _start _init _fini _end edata etext __bss_start __ehdr_start __executable_start data_start _DYNAMIC
    __libc_start_main __init_array_start __init_array_end __fini_array_start __preinit_array_start
    __preinit_array_end
"""


def _by_name(headed: str) -> dict[str, str]:
    reasons, heading = {}, ""
    for line in headed.strip().splitlines():
        if line.startswith(" "):
            reasons.update(dict.fromkeys(line.split(), heading))
        else:
            heading = line.removesuffix(":")
    return reasons


FORBIDDEN_IMPORTS = _by_name(IMPORTS)


class MalformedObject(ValueError):
    """The bytes are not an object file that a linker should see."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of an object file."""

    name: str
    kind: int
    flags: int
    content: memoryview
    """Its bytes; empty where the file holds none."""


@dataclass(frozen=True, kw_only=True)
class Symbol:
    """One symbol of an object file."""

    name: str
    """Without its version."""
    version: str
    """What stands behind an `@` in its name; empty without."""
    binding: str
    """`local`, `global`, `weak`, `unique` or a number that no compiler writes."""
    kind: str
    """`function`, `object`, ...; `none` in assembly that does not say."""
    defined: bool
    grouped: bool
    """It stands in a section of which the linker keeps one copy, as templates and inline functions do."""


@dataclass(frozen=True)
class ObjectFile:
    """What an object file consists of, as far as this policy cares."""

    machine: int
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]

    def defined(self) -> frozenset[str]:
        """The names that other object files can link to."""
        return frozenset(symbol.name for symbol in self.symbols if symbol.defined and symbol.binding != "local")

    def undefined(self) -> frozenset[str]:
        """The names that other object files must give."""
        return frozenset(symbol.name for symbol in self.symbols if not symbol.defined and symbol.name)


def read_object(object_file: bytes, kind: int = RELOCATABLE) -> ObjectFile:
    """Read an ELF file (64 bit, little-endian, x86-64 or aarch64): relocatable, or `SHARED`, a library or program.

    Raises MalformedObject, nothing else.
    """
    try:
        return _read(memoryview(object_file), kind)
    except (struct.error, IndexError) as error:
        raise MalformedObject("it is cut off or points outside of itself") from error


def violations(object_file: bytes, harness: str = "") -> tuple[str, ...]:
    """Why this object must not be linked with a harness in one process: one sentence a reason, none for honest ones.

    `harness` is the harness's text where candidate and harness were compiled as one: `main`, and what the harness
    names itself, are then not held against the object. Never raises.
    """
    try:
        read = read_object(object_file)
    except MalformedObject as error:
        return (f"it is not a sound object file: {error}",)
    pardoned = frozenset(re.findall(r"\w+", harness)) if harness else frozenset()
    found = [*_bad_sections(read)]
    for symbol in read.symbols:
        reason = _bad_definition(symbol, pardoned) if symbol.defined else _bad_import(symbol.name, pardoned)
        if reason is not None:
            found.append(reason)
    return tuple(dict.fromkeys(found))


def is_library_name(name: str) -> bool:
    """A name of the C library or of namespace std, with no type of the program's own in it."""
    return name in LIBRARY or (STD_NAME.match(name) is not None and not _names_own_type(name[2:]))


def suspicious_opcodes(object_file: bytes) -> bool:
    """Its code holds the bytes of a system call. Exact on aarch64; on x86-64 about one honest object in seven has them.

    Ask `objdump_command` and `confirms_syscall` before rejecting. Never raises: a malformed object is suspicious.
    """
    try:
        read = read_object(object_file)
    except MalformedObject:
        return True
    find = _has_svc if read.machine == AARCH64 else _has_x86_call
    return any(find(bytes(section.content)) for section in read.sections if section.flags & EXECUTABLE)


def objdump_command(object_file: str) -> list[str]:
    """The command whose output `confirms_syscall` reads."""
    return ["objdump", "--disassemble", "--disassemble-zeroes", "--wide", "--no-show-raw-insn", object_file]


def confirms_syscall(objdump_text: str) -> bool:
    """The disassembly has a system call, or is built to hide one: bytes that are no instruction, or a jump into one."""
    instructions: set[int] = set()
    targets: set[int] = set()
    for line in [*objdump_text.splitlines(), "Disassembly of section"]:
        if line.startswith("Disassembly of section"):
            if instructions and any(target not in instructions and target <= max(instructions) for target in targets):
                return True
            instructions, targets = set(), set()
        elif match := INSTRUCTION.match(line):
            if SYSTEM_CALL.match(match["text"]):
                return True
            instructions.add(int(match["address"], 16))
            targets.update(int(target, 16) for target in TARGET.findall(match["text"]))
    return False


INSTRUCTION = re.compile(r"\s*(?P<address>[0-9a-f]+):\s+(?P<text>\S.*)")
SYSTEM_CALL = re.compile(r"(?:[a-z0-9.]+ )*(?:syscall|sysenter|int +\$?0x80|svc)\b|.*\(bad\)|\.byte|\.inst|\.word|udf")
TARGET = re.compile(r"\b([0-9a-f]+) <[^>]*>\s*$")


def _has_x86_call(code: bytes) -> bool:
    return any(opcode in code for opcode in (b"\x0f\x05", b"\x0f\x34", b"\xcd\x80"))


def _has_svc(code: bytes) -> bool:
    words = struct.iter_unpack("<I", code[: len(code) // 4 * 4])
    return any(word & 0xFFE0001F == 0xD4000001 for (word,) in words)


def _bad_sections(read: ObjectFile) -> Iterator[str]:
    is_sanitized = not STARTS_A_SANITIZER.isdisjoint(read.undefined())
    names = Counter(section.name for section in read.sections)
    for section in read.sections:
        alone = len(section.content) == POINTER and names[section.name] == 1
        if is_sanitized and alone and SANITIZERS_OWN.fullmatch(section.name):
            continue
        if EARLY_SECTION.fullmatch(section.name) or section.kind == PREINIT_ARRAY:
            yield f"it has a section {section.name}, whose code runs before or after everybody else's"
        if section.flags & EXECUTABLE and (section.flags & WRITABLE or section.name == ".note.GNU-stack"):
            yield f"its section {section.name} makes memory both writable and executable"
        if section.flags & COMPRESSED:
            yield f"its section {section.name} is compressed, so what it holds is not to be seen"


def _bad_definition(symbol: Symbol, pardoned: frozenset[str]) -> str | None:
    name = symbol.name
    if symbol.kind == "ifunc":
        return f"{name} is chosen by a resolver, which runs before everybody else's code"
    comparison = COMPARISON.match(name)
    if comparison and not _names_own_type(name[comparison.end() :]):
        return f"it defines {name}, a comparison of values that are not of its own types"
    if symbol.binding == "local":
        return None
    if SEAL_NAME.match(name):
        return None if name in pardoned else f"it defines {name}, a name of the verifier's own"
    if name in ENTRY:
        return None if name in pardoned else f"it defines {name}, which belongs to the harness"
    if ALLOCATION.match(name) and name not in PLACEMENT and not _names_own_type(name[4:]):
        return f"it replaces the global allocation function {name}"
    if _belongs_to_std(symbol):
        return f"it defines {name}, which belongs to the standard library"
    if _belongs_to_the_runtime(symbol):
        return f"it defines {name}, which belongs to the C or C++ run-time library"
    return None


def _belongs_to_std(symbol: Symbol) -> bool:
    if STD_COMPARISON.match(symbol.name) and symbol.binding == "weak":
        return not _names_own_type(symbol.name[4:])
    return (
        symbol.name.startswith("_Z")
        and is_library_name(symbol.name)
        and (symbol.binding == "global" or not symbol.grouped)
    )


def _belongs_to_the_runtime(symbol: Symbol) -> bool:
    name = symbol.name
    if symbol.kind in ("function", "none"):
        if SANITIZER.match(name) or name in LIBRARY:
            return True
        # Compilers put helpers of their own, such as `__clang_call_terminate`, into groups.
        return bool(RUNTIME_FUNCTION.match(name)) and not symbol.grouped
    return bool(RUNTIME_VARIABLE.match(name) or SANITIZER.match(name)) and not symbol.grouped


def _bad_import(name: str, pardoned: frozenset[str]) -> str | None:
    if name in pardoned:
        return None
    if SEAL_NAME.match(name):
        return f"it uses {name}, a name of the verifier's own"
    if STREAM_INTERNAL.match(name):
        return f"it uses {name}, a part of the C streams that no header offers"
    bare = name.lstrip("_").removeprefix("libc_")
    plain = bare.removesuffix("_chk").removesuffix("64").removesuffix("_2")
    # `_exit` is rejected and `exit` is not, so bare names are looked up as they are.
    why = next((FORBIDDEN_IMPORTS[form] for form in (name, bare, plain) if form in FORBIDDEN_IMPORTS), None)
    return None if why is None else f"it uses {name}, which {why}"


MANGLED_PIECE = re.compile(
    r"St(?P<std>\d+)|L[a-z]n?\d+E|(?P<unknown>[XZL]|U[lt]|D[tT])|S[0-9A-Z]*_|S[tabsiod]|T[0-9A-Z]*_|A\d*_"
    r"|B(?P<tag>\d+)|u(?P<vendor>\d+)|(?P<own>\d+)|(?P<open>[NIFJ])|(?P<close>E)|."
)
STD_SCOPE = re.compile(r"[VKrRO]*(S[tabsiod]|9__gnu_cxx|10__cxxabiv1)")


def _names_own_type(mangled: str) -> bool:
    """A mangled name mentions something outside of namespace std, or is too involved to tell."""
    position, in_std = 0, [False]
    while position < len(mangled):
        match = MANGLED_PIECE.match(mangled, position)
        if match is None or match["unknown"]:
            return True
        position = match.end()
        length = next((int(match[group]) for group in ("std", "tag", "vendor", "own") if match[group]), 0)
        if match["own"] and not in_std[-1]:
            return True
        position += length
        if match["open"]:
            in_std.append(match["open"] == "N" and STD_SCOPE.match(mangled, position) is not None)
        elif match["close"] and len(in_std) > 1:
            in_std.pop()
    return False


def _read(data: memoryview, wanted: int) -> ObjectFile:
    if bytes(data[:7]) != b"\x7fELF\x02\x01\x01":
        raise MalformedObject("it is no 64-bit little-endian ELF file")
    kind, machine = struct.unpack_from("<HH", data, 16)
    if kind != wanted or machine not in (X86_64, AARCH64):
        raise MalformedObject("it is no file of its kind for x86-64 or aarch64")
    headers = _section_headers(data)
    names = _slice(data, headers[_names_index(data, headers)])
    sections = tuple(
        Section(name=_text(names, header[0]), kind=header[1], flags=header[2], content=_slice(data, header))
        for header in headers
    )
    if sum(len(section.content) for section in sections) > len(data):
        raise MalformedObject("its sections overlap")
    tables = [header for header in headers if header[1] == SYMBOL_TABLE]
    if len(tables) != 1:
        raise MalformedObject(f"it has {len(tables)} symbol tables")
    return ObjectFile(machine, sections, tuple(_symbols(data, tables[0], headers)))


# A header is: name, type, flags, address, offset, size, link, info, alignment, entry size.
Header = tuple[int, ...]


def _section_headers(data: memoryview) -> list[Header]:
    start, size, count = *struct.unpack_from("<Q", data, 40), *struct.unpack_from("<HH", data, 58)
    if size != 64:
        raise MalformedObject("its section headers are not 64 bytes long")
    if count == 0:  # more sections than the field can say: the first header's size says it
        count = struct.unpack_from("<Q", data, start + 32)[0]
    if not 0 < count <= len(data) // 64 or start + count * 64 > len(data):
        raise MalformedObject("its section headers are outside of the file")
    return list(struct.iter_unpack("<IIQQQQIIQQ", data[start : start + count * 64]))


def _names_index(data: memoryview, headers: list[Header]) -> int:
    index = int(struct.unpack_from("<H", data, 62)[0])
    return headers[0][6] if index == 0xFFFF else index


def _slice(data: memoryview, header: Header) -> memoryview:
    kind, offset, size = header[1], header[4], header[5]
    if kind in (0, NO_BITS):
        return data[:0]
    if offset + size > len(data):
        raise MalformedObject("a section is outside of the file")
    return data[offset : offset + size]


def _text(strings: memoryview, offset: int) -> str:
    if offset >= len(strings):
        raise MalformedObject("a name is outside of its table")
    # Names are short; only a hostile one is cut, and then no name of an honest program is equal to it.
    return bytes(strings[offset : offset + 65536]).partition(b"\0")[0].decode("utf-8", "replace")


def _symbols(data: memoryview, table: Header, headers: list[Header]) -> Iterator[Symbol]:
    content, names = _slice(data, table), _slice(data, headers[table[6]])
    if len(content) % 24:
        raise MalformedObject("its symbol table holds a part of a symbol")
    if len(content) > 24 * MAX_SYMBOLS:
        raise MalformedObject(f"it has more than {MAX_SYMBOLS} symbols")
    text_left = 16 * len(data)  # names may share their ends, and a hostile table shares without end
    for offset, info, _, section, _, _ in struct.iter_unpack("<IBBHQQ", content):
        flags = headers[section][2] if 0 < section < min(len(headers), 0xFF00) else 0
        name = _text(names, offset) if offset else ""
        text_left -= len(name)
        if text_left < 0:
            raise MalformedObject("its names are longer than its text")
        name, _, version = name.partition("@")
        yield Symbol(
            name=name,
            version=version,
            binding=BINDINGS.get(info >> 4, str(info >> 4)),
            kind=KINDS.get(info & 15, str(info & 15)),
            defined=section != 0,
            # The index of a section past the field's range is in another table: such objects are full of templates.
            grouped=bool(flags & GROUPED) or section == 0xFFFF,
        )
