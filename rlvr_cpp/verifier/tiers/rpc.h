// Calls of functions that live in another process: the wire format, the caller's side and the worker's side.
//
// A message is its length (4 bytes) and a payload. A request holds the number of the call, the number of the function
// and the arguments; a reply holds the number of the call, an outcome, the result and the arguments that may have
// changed. Both ends run on one machine, so a number travels as its bytes.
//
// The oracle is trusted and the worker is not: what the oracle reads has every length checked before memory is taken
// for it, and whatever is not exactly a reply to this call ends the oracle at once, because then nobody is there to be
// judged. Which parts of this file are compiled is said by macros, RLVR_ORACLE or RLVR_WORKER among them.
//
// A signature of plain numbers needs no header at all. That saves most of the compile time, and no name of the system
// (read, index, time, ...) enters a text that was written without it: hence the declarations by assembler name.

extern "C" {
__PTRDIFF_TYPE__ rlvr_read(int, void*, __SIZE_TYPE__) __asm__("read");
__PTRDIFF_TYPE__ rlvr_write(int, const void*, __SIZE_TYPE__) __asm__("write");
void* rlvr_realloc(void*, __SIZE_TYPE__) __asm__("realloc");
void rlvr_free(void*) __asm__("free");
[[noreturn]] void rlvr_exit(int) __asm__("_exit");
int* rlvr_errno() __asm__("__errno_location");
void (*rlvr_signal(int, void (*)(int)))(int) __asm__("signal");
}

#ifdef RLVR_VECTOR
#include <vector>
#endif
#ifdef RLVR_DEQUE
#include <deque>
#endif
#ifdef RLVR_LIST
#include <list>
#endif
#ifdef RLVR_ARRAY
#include <array>
#endif
#ifdef RLVR_SET
#include <set>
#endif
#ifdef RLVR_MAP
#include <map>
#endif
#ifdef RLVR_UNORDERED_SET
#include <unordered_set>
#include <vector>
#endif
#ifdef RLVR_UNORDERED_MAP
#include <unordered_map>
#include <vector>
#endif
#ifdef RLVR_STRING
#include <string>
#endif
#ifdef RLVR_STRING_VIEW
#include <string_view>
#endif
#ifdef RLVR_PAIR
#include <utility>
#endif
#ifdef RLVR_TUPLE
#include <tuple>
#endif
#ifdef RLVR_OPTIONAL
#include <optional>
#endif
#ifdef RLVR_COMPLEX
#include <complex>
#endif
#ifdef RLVR_STANDARD_EXCEPTIONS
#include <exception>
#include <new>
#include <stdexcept>
#endif

// What every harness has alike can be compiled once (RLVR_RUNTIME) and left out of each (RLVR_APART).
#if defined(RLVR_APART)
#define RLVR_ONCE __attribute__((gnu_inline)) inline
#elif defined(RLVR_RUNTIME)
#define RLVR_ONCE __attribute__((used)) inline
#else
#define RLVR_ONCE inline
#endif

namespace rlvr {

typedef __SIZE_TYPE__ Size;
typedef unsigned char Byte;

const Size MAX_MESSAGE = Size(64) << 20;
const Size MAX_DECODED = Size(512) << 20;  // of memory for one message's values: a list's node is 30 times its byte
const Size NODE = 64;                      // bytes that an element of a container takes beside itself, at most
const Byte RETURNED = 0;  // the first outcome; the others are exceptions

// Both ends of one socket pair. The worker's is its standard input, so that a candidate has no descriptor but the usual.
#ifdef RLVR_ORACLE
const int CHANNEL = 3;
const int GONE = 77;  // the worker has ended, or closed its end
const int LOST = 78;  // the worker speaks nonsense
#else
const int CHANNEL = 0;
const int GONE = 1, LOST = 1;
#endif

[[noreturn]] RLVR_ONCE void gone() { rlvr_exit(GONE); }
[[noreturn]] RLVR_ONCE void lost() { rlvr_exit(LOST); }

// The bytes of a message that is being written, or of one that was received.
struct Buffer {
    Byte* data;
    Size used, room;

    Buffer() : data(nullptr), used(0), room(0) {}
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { rlvr_free(data); }

    RLVR_ONCE void reserve(Size size) {
        if (size <= room) return;
        if (size > MAX_MESSAGE) lost();
        room = size < MAX_MESSAGE / 2 ? 2 * size : MAX_MESSAGE;
        data = static_cast<Byte*>(rlvr_realloc(data, room));
        if (data == nullptr) lost();
    }
};

template <class T> struct Codec;  // how a value is put into a message and got out of one

class Writer {
  public:
    Buffer message;

    RLVR_ONCE void bytes(const void* from, Size count) {
        if (count == 0) return;
        if (count > MAX_MESSAGE) lost();
        message.reserve(message.used + count);
        __builtin_memmove(message.data + message.used, from, count);
        message.used += count;
    }
    RLVR_ONCE void count(Size elements) {
        if (elements > MAX_MESSAGE) lost();
        const unsigned short_count = static_cast<unsigned>(elements);
        bytes(&short_count, sizeof short_count);
    }
    template <class T> void put(const T& value) { Codec<T>::put(*this, value); }
};

class Reader {
  public:
    Reader() : at(nullptr), left(0), budget(MAX_DECODED) {}
    explicit Reader(const Buffer& message) : at(message.data), left(message.used), budget(MAX_DECODED) {}

    RLVR_ONCE void bytes(void* to, Size count) {
        if (count > left) lost();
        if (count == 0) return;
        __builtin_memmove(to, at, count);
        at += count;
        left -= count;
    }
    // A number of elements: each takes a byte of the message at least, and `size` bytes of memory.
    RLVR_ONCE Size count(Size size) {
        unsigned elements = 0;
        bytes(&elements, sizeof elements);
        if (elements > left) lost();
        charge(elements * size);
        return elements;
    }
    RLVR_ONCE void charge(Size memory) {
        if (memory > budget) lost();
        budget -= memory;
    }
    template <class T> T get() {
        try {
            return Codec<T>::get(*this);
        } catch (...) {  // there was no memory for the value
            lost();
        }
    }
    RLVR_ONCE void end() const {
        if (left != 0) lost();
    }

  private:
    const Byte* at;
    Size left, budget;
};

// ---------------------------------------------------------------------------------------------------------- numbers

template <class T> struct Number {
    static void put(Writer& out, const T& value) { out.bytes(&value, sizeof value); }
    static T get(Reader& in) {
        T value;
        in.bytes(&value, sizeof value);
        return value;
    }
};

template <> struct Codec<char> : Number<char> {};
template <> struct Codec<signed char> : Number<signed char> {};
template <> struct Codec<unsigned char> : Number<unsigned char> {};
template <> struct Codec<wchar_t> : Number<wchar_t> {};
template <> struct Codec<char16_t> : Number<char16_t> {};
template <> struct Codec<char32_t> : Number<char32_t> {};
#ifdef __cpp_char8_t
template <> struct Codec<char8_t> : Number<char8_t> {};
#endif
template <> struct Codec<short> : Number<short> {};
template <> struct Codec<unsigned short> : Number<unsigned short> {};
template <> struct Codec<int> : Number<int> {};
template <> struct Codec<unsigned int> : Number<unsigned int> {};
template <> struct Codec<long> : Number<long> {};
template <> struct Codec<unsigned long> : Number<unsigned long> {};
template <> struct Codec<long long> : Number<long long> {};
template <> struct Codec<unsigned long long> : Number<unsigned long long> {};
#ifdef __SIZEOF_INT128__
__extension__ typedef __int128 Int128;
__extension__ typedef unsigned __int128 UnsignedInt128;
template <> struct Codec<Int128> : Number<Int128> {};
template <> struct Codec<UnsignedInt128> : Number<UnsignedInt128> {};
#endif
template <> struct Codec<float> : Number<float> {};
template <> struct Codec<double> : Number<double> {};

template <> struct Codec<bool> {  // a byte other than 0 and 1 must never be taken for a bool as it is
    static void put(Writer& out, const bool& value) { out.put<Byte>(value ? 1 : 0); }
    static bool get(Reader& in) { return in.get<Byte>() != 0; }
};

template <> struct Codec<long double> {  // its padding holds whatever was in memory before: that stays here
    static const Size SIZE = __LDBL_MANT_DIG__ == 64 ? 10 : sizeof(long double);
    static void put(Writer& out, const long double& value) { out.bytes(&value, SIZE); }
    static long double get(Reader& in) {
        long double value = 0;
        in.bytes(&value, SIZE);
        return value;
    }
};

template <class T> struct Codec<const T> : Codec<T> {};

// --------------------------------------------------------------------------------------------- C strings and arrays

RLVR_ONCE void put_text(Writer& out, const char* text, Size length) {
    out.put<bool>(text != nullptr);
    if (text == nullptr) return;
    out.count(length);
    out.bytes(text, length);
}

RLVR_ONCE void put_text(Writer& out, const char* text) { put_text(out, text, text ? __builtin_strlen(text) : 0); }

// The text with a zero behind it, to be released with rlvr_free; null where that was sent.
RLVR_ONCE char* get_text(Reader& in) {
    if (!in.get<bool>()) return nullptr;
    const Size length = in.count(1);
    char* text = static_cast<char*>(rlvr_realloc(nullptr, length + 1));
    if (text == nullptr) lost();
    in.bytes(text, length);
    text[length] = 0;
    return text;
}

template <class T> void put_array(Writer& out, const T* values, Size count) {
    out.put<bool>(values != nullptr);
    if (values == nullptr) return;
    out.count(count);
    for (Size i = 0; i < count; ++i) out.put<T>(values[i]);
}

inline Size length_of(long long count) { return count > 0 ? static_cast<Size>(count) : 0; }

// ------------------------------------------------------------------------------------------- strings and containers

// A container that grows at its end or finds an element's place itself. FIXED is what it takes when it is empty.
// One that hashes is in `Hashed`.
template <class C, Size FIXED = 0, Size PER_ELEMENT = NODE> struct Container {
    typedef typename C::value_type Element;

    static void put(Writer& out, const C& values) {
        out.count(values.size());
        for (typename C::const_iterator i = values.begin(); i != values.end(); ++i) out.put<Element>(*i);
    }
    static C get(Reader& in) {
        in.charge(FIXED);
        const Size count = in.count(sizeof(Element) + PER_ELEMENT);
        C values;
        for (Size i = 0; i < count; ++i) values.insert(values.end(), in.get<Element>());
        if (values.size() != count) lost();  // the same key twice
        return values;
    }
};

#if defined(RLVR_UNORDERED_SET) || defined(RLVR_UNORDERED_MAP)
// In the order in which it is walked: among as many buckets, each new element comes first, so the last is put in first.
template <class C> struct Hashed {
    typedef typename C::value_type Element;

    static void put(Writer& out, const C& values) {
        out.count(values.bucket_count());
        out.count(values.size());
        for (typename C::const_iterator i = values.begin(); i != values.end(); ++i) out.put<Element>(*i);
    }
    static C get(Reader& in) {
        unsigned buckets = 0;
        in.bytes(&buckets, sizeof buckets);
        in.charge(buckets * sizeof(void*));
        const Size count = in.count(2 * sizeof(Element) + NODE);
        std::vector<Element> walked;
        for (Size i = 0; i < count; ++i) walked.push_back(in.get<Element>());
        C values(buckets);
        for (Size i = count; i > 0; --i) values.insert(walked[i - 1]);
        if (values.size() != count) lost();  // the same key twice
        return values;
    }
};
#endif

#ifdef RLVR_STRING
template <> struct Codec<std::string> {
    static void put(Writer& out, const std::string& text) {
        out.count(text.size());
        out.bytes(text.data(), text.size());
    }
    static std::string get(Reader& in) {
        std::string text(in.count(1), '\0');
        if (!text.empty()) in.bytes(&text[0], text.size());
        return text;
    }
};
#endif
#ifdef RLVR_STRING_VIEW
template <> struct Codec<std::string_view> {
    static void put(Writer& out, const std::string_view& text) {
        out.count(text.size());
        out.bytes(text.data(), text.size());
    }
};
#endif
#ifdef RLVR_VECTOR
template <class T, class A> struct Codec<std::vector<T, A>> : Container<std::vector<T, A>, 0, sizeof(T)> {};
#endif
#ifdef RLVR_DEQUE
template <class T, class A> struct Codec<std::deque<T, A>> : Container<std::deque<T, A>, 640> {};  // empty: its first block
#endif
#ifdef RLVR_LIST
template <class T, class A> struct Codec<std::list<T, A>> : Container<std::list<T, A>> {};
#endif
#ifdef RLVR_SET
template <class T, class C, class A> struct Codec<std::set<T, C, A>> : Container<std::set<T, C, A>> {};
template <class T, class C, class A> struct Codec<std::multiset<T, C, A>> : Container<std::multiset<T, C, A>> {};
#endif
#ifdef RLVR_MAP
template <class K, class V, class C, class A>
struct Codec<std::map<K, V, C, A>> : Container<std::map<K, V, C, A>> {};
template <class K, class V, class C, class A>
struct Codec<std::multimap<K, V, C, A>> : Container<std::multimap<K, V, C, A>> {};
#endif
#ifdef RLVR_UNORDERED_SET
template <class T, class H, class E, class A>
struct Codec<std::unordered_set<T, H, E, A>> : Hashed<std::unordered_set<T, H, E, A>> {};
#endif
#ifdef RLVR_UNORDERED_MAP
template <class K, class V, class H, class E, class A>
struct Codec<std::unordered_map<K, V, H, E, A>> : Hashed<std::unordered_map<K, V, H, E, A>> {};
#endif
#ifdef RLVR_ARRAY
template <class T, Size N> struct Codec<std::array<T, N>> {
    static void put(Writer& out, const std::array<T, N>& values) {
        for (Size i = 0; i < N; ++i) out.put<T>(values[i]);
    }
    static std::array<T, N> get(Reader& in) {
        std::array<T, N> values = {};
        for (Size i = 0; i < N; ++i) values[i] = in.get<T>();
        return values;
    }
};
#endif
#ifdef RLVR_PAIR
template <class A, class B> struct Codec<std::pair<A, B>> {
    static void put(Writer& out, const std::pair<A, B>& both) {
        out.put<A>(both.first);
        out.put<B>(both.second);
    }
    static std::pair<A, B> get(Reader& in) { return std::pair<A, B>{in.get<A>(), in.get<B>()}; }
};
#endif
#ifdef RLVR_TUPLE
template <Size I, Size N> struct Elements {
    template <class T> static void put(Writer& out, const T& values) {
        out.put<typename std::tuple_element<I, T>::type>(std::get<I>(values));
        Elements<I + 1, N>::put(out, values);
    }
};
template <Size N> struct Elements<N, N> {
    template <class T> static void put(Writer&, const T&) {}
};
template <class... T> struct Codec<std::tuple<T...>> {
    static void put(Writer& out, const std::tuple<T...>& values) { Elements<0, sizeof...(T)>::put(out, values); }
    static std::tuple<T...> get(Reader& in) { return std::tuple<T...>{in.get<T>()...}; }  // braces: left to right
};
#endif
#ifdef RLVR_OPTIONAL
template <class T> struct Codec<std::optional<T>> {
    static void put(Writer& out, const std::optional<T>& value) {
        out.put<bool>(value.has_value());
        if (value) out.put<T>(*value);
    }
    static std::optional<T> get(Reader& in) {
        if (!in.get<bool>()) return std::nullopt;
        return std::optional<T>(in.get<T>());
    }
};
#endif
#ifdef RLVR_COMPLEX
template <class T> struct Codec<std::complex<T>> {
    static void put(Writer& out, const std::complex<T>& value) {
        out.put<T>(value.real());
        out.put<T>(value.imag());
    }
    static std::complex<T> get(Reader& in) {
        const T real = in.get<T>();
        return std::complex<T>(real, in.get<T>());
    }
};
#endif

// ------------------------------------------------------------------------------------------------------- exceptions

#ifdef RLVR_EXCEPTIONS
const Byte UNKNOWN = 12;

struct Unknown {};  // something was thrown that is no std::exception, or where nobody asks what

RLVR_ONCE void put_thrown(Writer& out, Byte kind, const char* what) {
    out.put<Byte>(kind);
    put_text(out, what);
}
#endif

#ifdef RLVR_STANDARD_EXCEPTIONS
// Derived classes first: the first that fits is the one that is sent.
#define RLVR_EACH_EXCEPTION(X) \
    X(1, invalid_argument)     \
    X(2, domain_error)         \
    X(3, length_error)         \
    X(4, out_of_range)         \
    X(5, logic_error)          \
    X(6, range_error)          \
    X(7, overflow_error)       \
    X(8, underflow_error)      \
    X(9, runtime_error)

const Byte BAD_ALLOC = 10, EXCEPTION = 11;

// Inside of a handler: sends the exception that is being handled.
RLVR_ONCE void put_exception(Writer& out) {
    try {
        throw;
    }
#define RLVR_SEND(kind, name) \
    catch (const std::name& error) { put_thrown(out, kind, error.what()); }
    RLVR_EACH_EXCEPTION(RLVR_SEND)
#undef RLVR_SEND
    catch (const std::bad_alloc& error) { put_thrown(out, BAD_ALLOC, error.what()); }
    catch (const std::exception& error) { put_thrown(out, EXCEPTION, error.what()); }
    catch (...) { put_thrown(out, UNKNOWN, ""); }
}

struct Exception : std::exception {
    const char* text;
    explicit Exception(const char* what) : text(what) {}
    const char* what() const noexcept override { return text; }
};

[[noreturn]] RLVR_ONCE void throw_again(Byte kind, const char* what) {
    if (what == nullptr) lost();
    switch (kind) {
#define RLVR_THROW(kind, name) \
    case kind: throw std::name(what);
        RLVR_EACH_EXCEPTION(RLVR_THROW)
#undef RLVR_THROW
        case BAD_ALLOC: throw std::bad_alloc();
        case EXCEPTION: throw Exception(what);
        case UNKNOWN: throw Unknown();
        default: lost();
    }
}
#elif defined(RLVR_EXCEPTIONS)
RLVR_ONCE void put_exception(Writer& out) { put_thrown(out, UNKNOWN, ""); }

[[noreturn]] RLVR_ONCE void throw_again(Byte kind, const char* what) {
    if (what == nullptr || kind != UNKNOWN) lost();
    throw Unknown();
}
#endif

// --------------------------------------------------------------------------------------------------------- messages

RLVR_ONCE bool interrupted() { return *rlvr_errno() == 4; }  // EINTR

// How many of `count` bytes came before the other end closed.
RLVR_ONCE Size read_bytes(int descriptor, void* to, Size count) {
    Size done = 0;
    while (done < count) {
        const __PTRDIFF_TYPE__ got = rlvr_read(descriptor, static_cast<Byte*>(to) + done, count - done);
        if (got > 0) done += static_cast<Size>(got);
        else if (got == 0 || !interrupted()) break;
    }
    return done;
}

RLVR_ONCE void write_bytes(int descriptor, const void* from, Size count) {
    for (Size done = 0; done < count;) {
        const __PTRDIFF_TYPE__ put = rlvr_write(descriptor, static_cast<const Byte*>(from) + done, count - done);
        if (put > 0) done += static_cast<Size>(put);
        else if (put == 0 || !interrupted()) gone();
    }
}

RLVR_ONCE void send(int descriptor, const Buffer& message) {
    const unsigned size = static_cast<unsigned>(message.used);
    write_bytes(descriptor, &size, sizeof size);
    write_bytes(descriptor, message.data, message.used);
}

// False where the other end has closed between two messages.
RLVR_ONCE bool receive(int descriptor, Buffer& message) {
    unsigned size = 0;
    const Size got = read_bytes(descriptor, &size, sizeof size);
    if (got == 0) return false;
    if (got != sizeof size) gone();
    if (size > MAX_MESSAGE) lost();
    message.reserve(size);
    message.used = size;
    if (read_bytes(descriptor, message.data, size) != size) gone();
    return true;
}

// --------------------------------------------------------------------------------------------------- the two sides

#ifdef RLVR_ORACLE
// One call: send the arguments, transfer, receive the result and what came back, end.
class Call {
  public:
    RLVR_ONCE explicit Call(unsigned function) : number(++last()) {
        out.put(number);
        out.put(function);
    }
    template <class T> void send(const T& value) { out.put(value); }
    void send_text(const char* text) { put_text(out, text); }
    void send_text(const char* text, long long count) { put_text(out, text, length_of(count)); }
    template <class T> void send_array(const T* values, long long count) {
        put_array(out, values, length_of(count));
    }

    RLVR_ONCE void transfer() {
        if (number == 1) rlvr_signal(13, reinterpret_cast<void (*)(int)>(1));  // SIGPIPE, SIG_IGN: write will tell
        rlvr::send(CHANNEL, out.message);
        if (!rlvr::receive(CHANNEL, reply)) gone();
        in = Reader(reply);
        if (in.get<unsigned>() != number) lost();  // a reply to another call
        const Byte outcome = in.get<Byte>();
        if (outcome == RETURNED) return;
#ifdef RLVR_EXCEPTIONS
        const char* what = get_text(in);  // never released: the exception refers to it
        in.end();
        throw_again(outcome, what);
#else
        lost();
#endif
    }

    template <class T> T receive() { return in.get<T>(); }
    const char* receive_text() { return get_text(in); }  // never released: the caller may keep it
    template <class T> void receive_into(T& value) { value = in.get<T>(); }
    template <class T> void receive_array(T* values, long long count) {
        if (in.get<bool>() != (values != nullptr)) lost();
        if (values == nullptr) return;
        if (in.count(0) != length_of(count)) lost();
        for (Size i = 0; i < length_of(count); ++i) values[i] = in.get<T>();
    }
    RLVR_ONCE void end() const { in.end(); }

  private:
    unsigned number;
    Writer out;
    Buffer reply;
    Reader in;

    RLVR_ONCE static unsigned& last() {
        static unsigned number = 0;
        return number;
    }
};
#endif

#ifdef RLVR_TOGETHER
// The result of a function that was found by its name alone: of the type that was declared, or another kind of whole
// number that holds the same value.
template <class T> struct Bare { typedef T type; };
template <class T> struct Bare<const T> : Bare<T> {};
template <class T> struct Bare<T&> : Bare<T> {};
template <class T> struct Bare<T&&> : Bare<T> {};
template <class A, class B> struct Same { static const bool value = false; };
template <class A> struct Same<A, A> { static const bool value = true; };
template <class T> struct Whole { static const bool value = false; };
#define RLVR_WHOLE(T) template <> struct Whole<T> { static const bool value = true; };
RLVR_WHOLE(bool)
RLVR_WHOLE(short)
RLVR_WHOLE(unsigned short)
RLVR_WHOLE(int)
RLVR_WHOLE(unsigned int)
RLVR_WHOLE(long)
RLVR_WHOLE(unsigned long)
RLVR_WHOLE(long long)
RLVR_WHOLE(unsigned long long)
#undef RLVR_WHOLE

template <class R, class T, bool WHOLE> struct Kept {
    static const R& value(const R& result) { return result; }
};
template <class R, class T> struct Kept<R, T, true> {
    static R value(T result) {
        const R kept = static_cast<R>(result);
        if (static_cast<T>(kept) != result || (kept < R(1)) != (result < T(1))) lost();
        return kept;
    }
};
#define RLVR_RESULT(...)                                                                                          \
    typedef rlvr::Bare<decltype(__VA_ARGS__)>::type rlvr_given;                                                   \
    static_assert(rlvr::Same<rlvr_declared, rlvr_given>::value ||                                                 \
                      (rlvr::Whole<rlvr_declared>::value && rlvr::Whole<rlvr_given>::value),                      \
                  "the function does not return what was declared");                                              \
    rlvr_out.put<rlvr_declared>(                                                                                  \
        rlvr::Kept<rlvr_declared, rlvr_given, !rlvr::Same<rlvr_declared, rlvr_given>::value>::value(__VA_ARGS__));
#endif

#ifdef RLVR_WORKER
struct Text {  // an argument that is a C string
    char* data;

    explicit Text(Reader& in) : data(get_text(in)) {}
    Text(const Text&) = delete;
    Text& operator=(const Text&) = delete;
    ~Text() { rlvr_free(data); }
};

template <class T> struct Array {  // an argument that is an array: exactly its elements, so that a sanitizer sees more
    T* data;
    Size count;

    explicit Array(Reader& in) : data(nullptr), count(0) {
        if (!in.get<bool>()) return;
        count = in.count(sizeof(T));
        data = new T[count];
        for (Size i = 0; i < count; ++i) data[i] = in.get<T>();
    }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;
    ~Array() { delete[] data; }
    void put(Writer& out) const { put_array(out, data, count); }
};

// Decodes the arguments, calls the function, encodes the result.
typedef void (*Service)(Reader& in, Writer& out);

inline void call(Service service, Reader& in, unsigned number, Writer& out) {
    out.put(number);
    out.put(RETURNED);
    service(in, out);
}

// Answers requests until there are no more.
inline int serve(const Service* services, unsigned count) {
    for (Buffer request; receive(CHANNEL, request);) {
        Reader in(request);
        const unsigned number = in.get<unsigned>(), function = in.get<unsigned>();
        if (function >= count) lost();
        Writer out;
#ifdef RLVR_EXCEPTIONS
        try {
            call(services[function], in, number, out);
        } catch (...) {
            out.message.used = 0;
            out.put(number);
            put_exception(out);
        }
#else
        call(services[function], in, number, out);
#endif
        send(CHANNEL, out.message);
    }
    return 0;
}
#endif

}  // namespace rlvr
