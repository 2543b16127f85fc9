// Expressions that are evaluated in another process: the oracle's side and the observer's. Stands behind rpc.h.
//
// The oracle is the test. Where it says something about the candidate it asks for the value of an expression, by the
// number of a thunk, and is given a value of a type that it knows. Objects of the candidate stay in the observer: the
// oracle holds handles, whose destructors end the objects where the test would have. Functions of the test that the
// candidate is given are stubs in the observer that call back while the oracle waits.
//
//   oracle to observer   CALL number thunk arguments | DROP number handle | RESULT outcome value
//   observer to oracle   RETURNED number value and what may have changed | CALLED function arguments
//                        THREW number exception text | THREW_OWN number classes handle... exception text
//
// The observer holds thunks and no expectation. The oracle ends, with LOST, at whatever is not exactly the answer.

namespace rlvr {

const Byte CALL = 0, DROP = 1, RESULT = 2;                  // from the oracle
const Byte CALLED = 1, THREW = 2, THREW_OWN = 3;            // from the observer, beside RETURNED
const int THREW_INSTEAD = 2;                                // of a comparison, beside 0 and 1
const unsigned MAX_DEPTH = 200;                             // of calls back inside of calls back

template <class T> struct Bare { typedef T type; };
template <class T> struct Bare<const T> { typedef T type; };
template <class T> struct Bare<T&> : Bare<T> {};
template <class T> struct Bare<T&&> : Bare<T> {};
template <class T> struct Unreferenced { typedef T type; };
template <class T> struct Unreferenced<T&> { typedef T type; };
template <class T> struct Unreferenced<T&&> { typedef T type; };
template <class A, class B> struct Same { static const bool value = false; };
template <class A> struct Same<A, A> { static const bool value = true; };

// Whatever number the candidate answers with where only a test says what it is compared with.
struct AnyNumber {
    long double value;
    operator long double() const { return value; }
};
template <> struct Codec<AnyNumber> {
    static void put(Writer& out, const AnyNumber& number) { out.put(number.value); }
    static AnyNumber get(Reader& in) { return AnyNumber{in.get<long double>()}; }
};

// A growing array that needs no header.
template <class T> struct List {
    T* data = nullptr;
    unsigned used = 0, room = 0;

    unsigned add(T one) {
        if (used == room) {
            room = 2 * room + 16;
            data = static_cast<T*>(rlvr_realloc(data, room * sizeof(T)));
            if (data == nullptr) lost();
        }
        data[used] = one;
        return used++;
    }
    T& at(unsigned place) {
        if (place >= used) lost();
        return data[place];
    }
};

#ifdef RLVR_ORACLE
// ------------------------------------------------------------------------------------------------------ the oracle

struct Callback {  // a function of the test that the candidate may call
    virtual void answer(Reader& in, Writer& out) = 0;
    virtual ~Callback() {}
};
inline List<Callback*>& callbacks() {
    static List<Callback*> all;
    return all;
}
extern "C" __PTRDIFF_TYPE__ rlvr_receive_now(int, void*, __SIZE_TYPE__, int) __asm__("recv");
// An observer that says more than it was asked has written to the channel itself.
struct Silence {
    ~Silence() {
        Byte more;
        if (rlvr_receive_now(CHANNEL, &more, 1, 0x40) > 0) lost();  // MSG_DONTWAIT
    }
};
static Silence silence;
inline unsigned& last_number() {
    static unsigned number = 0;
    return number;
}
// Throws the stand-in for an exception of the candidate's own, and knows how many of its classes the test catches.
void throw_own(Reader& in);

inline void answer_callback(Reader& in) {
    static unsigned depth = 0;
    const unsigned function = in.get<unsigned>();
    if (++depth > MAX_DEPTH) lost();
    Callback* const called = callbacks().at(function);
    if (called == nullptr) lost();  // what it refers to has ended
    Writer out;
    out.put(RESULT);
#ifdef RLVR_EXCEPTIONS
    try {
        Writer value;
        called->answer(in, value);
        out.put(RETURNED);
        out.bytes(value.message.data, value.message.used);
    } catch (...) {
        put_exception(out);
    }
#else
    out.put(RETURNED);
    called->answer(in, out);
#endif
    --depth;
    send(CHANNEL, out.message);
}

// One question, with everything that is called back meanwhile, to the answer.
class Question {
  public:
    explicit Question(Byte kind) : number(++last_number()) {
        out.put(kind);
        out.put(number);
    }
    Writer out;
    Reader in;

    void transfer() {
        if (number == 1) rlvr_signal(13, reinterpret_cast<void (*)(int)>(1));  // SIGPIPE, SIG_IGN: write will tell
        send(CHANNEL, out.message);
        for (;;) {
            if (!receive(CHANNEL, reply)) gone();
            in = Reader(reply);
            const Byte kind = in.get<Byte>();
            if (kind != CALLED) return finish(kind);
            answer_callback(in);
        }
    }

  private:
    unsigned number;
    Buffer reply;

    void finish(Byte kind) {
        if (in.get<unsigned>() != number) lost();  // the answer to another question
        if (kind == RETURNED) return;
#ifdef RLVR_EXCEPTIONS
        if (kind == THREW) {
            const Byte which = in.get<Byte>();
            const char* what = get_text(in);  // never released: the exception refers to it
            in.end();
            throw_again(which, what);
        }
        if (kind == THREW_OWN) throw_own(in);
#endif
        lost();
    }
};

// An object in the observer. Whoever made it ends it.
struct Handle {
    unsigned id;
    bool owns;

    Handle(unsigned object, bool is_owner) : id(object), owns(is_owner) {}
    Handle(Handle&& other) : id(other.id), owns(other.owns) { other.owns = false; }
    Handle(const Handle& other) : id(other.id), owns(false) {}
    Handle& operator=(const Handle&) = delete;
    ~Handle() noexcept(false) {  // a destructor of the candidate's may throw, too
        if (!owns) return;
        Question drop(DROP);
        drop.out.put(id);
        drop.transfer();
        drop.in.end();
    }
};

#ifdef RLVR_STANDARD_EXCEPTIONS
// An exception of the candidate's own is stood in for by one that is caught as whatever caught it in the observer: as
// each of the classes that the test catches, by their numbers, and as what it is in the library.
template <unsigned Class> struct Thrown {
    const Handle& object;  // never released: the exception refers to it
    explicit Thrown(const unsigned* handles) : object(*new Handle(handles[Class], false)) {}
};
template <class Library, unsigned... Classes> struct StandIn : Library, Thrown<Classes>... {
    StandIn(const char* what, const unsigned* handles) : Library(what), Thrown<Classes>(handles)... {}
};
struct NoMemory : std::bad_alloc {
    explicit NoMemory(const char*) {}
};
struct NoLibrary {
    explicit NoLibrary(const char*) {}
};

// Goes through the classes of the test, with those that have caught it.
template <class Library, unsigned Class, unsigned Count, unsigned... Caught> struct ThrowAs {
    static void now(unsigned classes, const char* what, const unsigned* handles) {
        if (classes >> Class & 1) ThrowAs<Library, Class + 1, Count, Caught..., Class>::now(classes, what, handles);
        else ThrowAs<Library, Class + 1, Count, Caught...>::now(classes, what, handles);
    }
};
template <class Library, unsigned Count, unsigned... Caught> struct ThrowAs<Library, Count, Count, Caught...> {
    static void now(unsigned, const char* what, const unsigned* handles) { throw StandIn<Library, Caught...>(what, handles); }
};
template <unsigned Count> void throw_own_of(Reader& in) {
    unsigned handles[Count];
    const unsigned classes = in.get<unsigned>();
    if (classes == 0 || classes >> Count != 0) lost();
    for (unsigned n = 0; n < Count; ++n) handles[n] = classes >> n & 1 ? in.get<unsigned>() : 0;
    const Byte kind = in.get<Byte>();
    const char* what = get_text(in);  // never released either
    in.end();
    if (what == nullptr) lost();
    switch (kind) {
#define RLVR_THROW(kind, name) \
    case kind: return ThrowAs<std::name, 0, Count>::now(classes, what, handles);
        RLVR_EACH_EXCEPTION(RLVR_THROW)
#undef RLVR_THROW
        case BAD_ALLOC: return ThrowAs<NoMemory, 0, Count>::now(classes, what, handles);
        case EXCEPTION: return ThrowAs<Exception, 0, Count>::now(classes, what, handles);
        case UNKNOWN: return ThrowAs<NoLibrary, 0, Count>::now(classes, what, handles);
        default: lost();
    }
}
#endif

template <class T> struct Changed { T& variable; };  // an argument that the candidate may change
template <class T> Changed<T> changed(T& variable) { return {variable}; }
template <class T> struct As { T value; };
template <class T, class V> As<T> as(const V& value) { return As<T>{static_cast<T>(value)}; }

template <class T> void put_argument(Writer& out, const T& value) { out.put(value); }
template <class T> void put_argument(Writer& out, const As<T>& value) { out.put(value.value); }
template <class T> void put_argument(Writer& out, const Changed<T>& value) { out.put(value.variable); }
inline void put_argument(Writer& out, const Handle& object) { out.put(object.id); }
inline void put_argument(Writer& out, const char* text) { put_text(out, text); }
template <class T> void take_back(Reader&, const T&) {}
template <class T> void take_back(Reader& in, const Changed<T>& value) { value.variable = in.get<T>(); }

inline void put_arguments(Writer&) {}
template <class A, class... Rest> void put_arguments(Writer& out, const A& first, const Rest&... rest) {
    put_argument(out, first);
    put_arguments(out, rest...);
}
inline void take_all_back(Reader&) {}
template <class A, class... Rest> void take_all_back(Reader& in, const A& first, const Rest&... rest) {
    take_back(in, first);
    take_all_back(in, rest...);
}

// The value of an expression, one that has none, and an object that it makes.
template <class R, class... A> R ask(unsigned thunk, const A&... arguments) {
    Question call(CALL);
    call.out.put(thunk);
    put_arguments(call.out, arguments...);
    call.transfer();
    R value = call.in.get<R>();
    take_all_back(call.in, arguments...);
    call.in.end();
    return value;
}
template <class... A> void tell(unsigned thunk, const A&... arguments) {
    Question call(CALL);
    call.out.put(thunk);
    put_arguments(call.out, arguments...);
    call.transfer();
    take_all_back(call.in, arguments...);
    call.in.end();
}
template <class... A> Handle make(unsigned thunk, const A&... arguments) {
    return Handle(ask<unsigned>(thunk, arguments...), true);
}

// Decodes arguments from left to right, and calls.
template <class... A> struct Types {};
template <class R, class F, class... Done> R apply(F& function, Reader& in, Types<>, Done&... done) {
    in.end();
    return function(done...);
}
template <class R, class F, class First, class... Rest, class... Done>
R apply(F& function, Reader& in, Types<First, Rest...>, Done&... done) {
    typename Bare<First>::type value = in.get<typename Bare<First>::type>();
    return apply<R>(function, in, Types<Rest...>(), done..., value);
}
template <class Signature, class F> struct Answer;
template <class R, class... A, class F> struct Answer<R(A...), F> : Callback {
    F function;
    explicit Answer(F f) : function(static_cast<F&&>(f)) {}
    void answer(Reader& in, Writer& out) override { out.put<typename Bare<R>::type>(apply<R>(function, in, Types<A...>())); }
};
template <class... A, class F> struct Answer<void(A...), F> : Callback {
    F function;
    explicit Answer(F f) : function(static_cast<F&&>(f)) {}
    void answer(Reader& in, Writer&) override { apply<void>(function, in, Types<A...>()); }
};
template <class Signature, class F> unsigned called_back(F function) {  // never released: a candidate may keep it
    return callbacks().add(new Answer<Signature, F>(static_cast<F&&>(function)));
}
// Stands behind the variables that closures refer to: when they end, nobody may call those closures any more.
struct Extent {
    List<unsigned> closures;
    ~Extent() {
        for (unsigned n = 0; n < closures.used; ++n) callbacks().at(closures.data[n]) = nullptr;
    }
};
template <class Signature, class F> unsigned called_back(F function, Extent& extent) {
    const unsigned closure = called_back<Signature>(static_cast<F&&>(function));
    extent.closures.add(closure);
    return closure;
}

#ifdef RLVR_CHALLENGE
// A comparison that the candidate's own code decides is asked in several forms: with the test's literals, and with
// others near them. The forms are drawn so that none stands out. Each literal has a window of consecutive values, in
// which the test's own has any place, and each form has of each window a value that no other form has. They are asked
// in any order, several times each. Whoever compares says yes to one of them; whoever remembers what was asked before
// knows a set of questions, and not which of them is the test's.
const unsigned FORMS = 8, ROUNDS = 3, DRAWS = 64, FEW = 8;

struct Chance {  // numbers that follow from a seed
    unsigned long long state;
    unsigned below(unsigned bound) {
        unsigned long long mixed = state += 0x9E3779B97F4A7C15ull;
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9ull;
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBull;
        return static_cast<unsigned>((mixed ^ (mixed >> 31)) >> 32) % bound;
    }
};

// The literals of one form. Numbers from one on stay so, since what is made of them has to be sound.
struct Form {
    unsigned long long draw;
    unsigned number;  // 0 is the test's own

    Form(unsigned place, unsigned drawn, unsigned which) : draw(RLVR_SALT + place * DRAWS + drawn), number(which) {}

    // One value at least is smaller where there is room: a greater one may be more than can be made sense of.
    int distance(unsigned literal, unsigned least_place, unsigned most_place) const {
        Chance chance = {draw * 64 + literal};
        const unsigned place = least_place + chance.below(most_place - least_place + 1);
        int distances[FORMS];
        for (unsigned n = 0; n < FORMS; ++n) distances[n] = static_cast<int>(n) - static_cast<int>(place);
        distances[place] = distances[0];
        distances[0] = 0;
        for (unsigned left = FORMS - 1; left > 1; --left) {
            const unsigned one = 1 + chance.below(left);
            const int other = distances[one];
            distances[one] = distances[left];
            distances[left] = other;
        }
        return distances[number];
    }
    template <class T> As<T> operator()(unsigned literal, const As<T>& given) const {
        const T first = given.value < T(1) ? given.value : T(1), room = given.value - first;
        const unsigned most = room < T(FORMS - 1) ? static_cast<unsigned>(room) : FORMS - 1;
        const bool is_last = given.value > std::numeric_limits<T>::max() - T(FORMS);
        return As<T>{static_cast<T>(given.value + static_cast<T>(distance(literal, is_last || most == 0 ? most : 1, most)))};
    }
    // In a text the last letter or digit turns, among those of its kind.
    const char* operator()(unsigned literal, const char* given) const {
        const Size length = __builtin_strlen(given);
        char* const text = static_cast<char*>(rlvr_realloc(nullptr, length + 1));
        __builtin_memcpy(text, given, length + 1);
        for (Size at = length; at > 0; --at) {
            char& letter = text[at - 1];
            const char first = letter >= 'a' && letter <= 'z' ? 'a' : letter >= 'A' && letter <= 'Z' ? 'A' : '0';
            const int count = first == '0' ? 10 : 26;
            if (letter < first || letter >= first + count) continue;
            letter = static_cast<char>(first + (letter - first + count + distance(literal, 0, FORMS - 1)) % count);
            break;
        }
        return text;  // never released: a candidate's answer may be late, and tests are short
    }
};

// What a form is answered: 0, 1, or THREW_INSTEAD where nothing can be made of its literals, which is for the test to
// catch where they are its own.
template <class Ask> int answer_to(const Ask& ask, const Form& form) {
#ifdef RLVR_EXCEPTIONS
    if (form.number == 0) return ask(form);
    try {
        return ask(form);
    } catch (...) {
        return THREW_INSTEAD;
    }
#else
    return ask(form);
#endif
}

#ifdef RLVR_REHEARSAL
// The reference says by which draws every other form is denied. None are left of a comparison that it ever denies, or
// by which none is: it is asked once, and as it stands.
struct Rehearsal {
    unsigned long long draws[RLVR_REHEARSAL];
    unsigned times[RLVR_REHEARSAL];
    Rehearsal() {
        for (unsigned n = 0; n < RLVR_REHEARSAL; ++n) draws[n] = ~0ull, times[n] = 0;
    }
    void leave_few(unsigned place) {  // a loop has not the time for all
        unsigned long long few = 0;
        for (unsigned n = 0; n < FEW && draws[place] != few; ++n) few |= (draws[place] ^ few) & -(draws[place] ^ few);
        draws[place] = few;
    }
    ~Rehearsal() {
        __builtin_printf("\nrlvr_draws");
        for (unsigned n = 0; n < RLVR_REHEARSAL; ++n) __builtin_printf(" %llx", draws[n]);
        __builtin_printf("\n");
    }
};
static Rehearsal rehearsal;
template <class Ask> bool challenge(unsigned place, const Ask& ask) {
    const int own = answer_to(ask, Form(place, 0, 0));
    unsigned long long& draws = rehearsal.draws[place];
    if (own != 1) draws = 0;
    if (++rehearsal.times[place] > FEW) rehearsal.leave_few(place);
    for (unsigned draw = 0; draw < DRAWS; ++draw) {
        unsigned denied = 0;
        bool agreed = false;
        for (unsigned number = 1; number < FORMS && draws >> draw & 1; ++number) {
            const int answer = answer_to(ask, Form(place, draw, number));
            denied += answer == 0;
            agreed = agreed || answer == 1;
        }
        if (agreed || denied == 0) draws &= ~(1ull << draw);
    }
    return own == 1;
}
#else
inline unsigned chosen(std::random_device& chance, unsigned long long among) {
    unsigned draw = chance() % DRAWS;
    while ((among >> draw & 1) == 0) draw = (draw + 1) % DRAWS;
    return draw;
}
// With a reference every other form has to be denied. Without one an honest `==` may fold or ignore what was changed:
// then half of them have to be, and it is always the same draw, so that whoever is honest is always told the same.
template <class Ask> bool challenge(unsigned place, const Ask& ask) {
    static std::random_device chance;
    static const unsigned long long draws[] = RLVR_CHALLENGE;
    const bool has_reference = draws[place] != 0;
    const unsigned draw = has_reference ? chosen(chance, draws[place]) : 0;
    int answers[FORMS];
    unsigned order[ROUNDS * FORMS], agreed = 0, denied = 0;
    for (unsigned n = 0; n < FORMS; ++n) answers[n] = -1;
    for (unsigned n = 0; n < ROUNDS * FORMS; ++n) order[n] = n % FORMS;
    bool steady = true;
    for (unsigned left = ROUNDS * FORMS; left > 0; --left) {
        const unsigned one = chance() % left, number = order[one];
        order[one] = order[left - 1];
        const int answer = answer_to(ask, Form(place, draw, number));
        steady = steady && (answers[number] < 0 || answers[number] == answer);
        answers[number] = answer;
    }
    for (unsigned n = 1; n < FORMS; ++n) agreed += answers[n] == 1, denied += answers[n] == 0;
    const unsigned bearable = has_reference ? 0 : FORMS / 2;
    return steady && answers[0] == 1 && agreed <= bearable && (agreed == 0 || denied > 0);
}
#endif
#endif

#else
// ---------------------------------------------------------------------------------------------------- the observer

struct Slot {
    void* object;
    void (*end)(void*);
};
RLVR_ONCE List<Slot>& slots() {
    static List<Slot> all;
    return all;
}
RLVR_ONCE unsigned add_slot(const volatile void* object, void (*end)(void*)) {
    return slots().add(Slot{const_cast<void*>(object), end});
}
RLVR_ONCE void* object_of(unsigned slot) { return slots().at(slot).object; }
RLVR_ONCE unsigned take_number(Reader& in) { return in.get<unsigned>(); }
RLVR_ONCE void put_slot(Writer& out, unsigned slot) { out.put(slot); }

template <class T> void end_object(void* object) { delete static_cast<T*>(object); }
template <class T> unsigned hold(T* object) { return add_slot(object, &end_object<T>); }
template <class T, Size N> struct Array { typedef T type[N]; };
template <class T> void end_array(void* first) { delete[] static_cast<T*>(first); }
template <class T> unsigned hold_array(T* first) { return add_slot(first, &end_array<T>); }
template <class T> unsigned refer(T& object) { return add_slot(&reinterpret_cast<const volatile char&>(object), nullptr); }
template <class T> T& object(Reader& in) { return *static_cast<T*>(object_of(take_number(in))); }
template <class T> T& keep(T value) { return *new T(static_cast<T&&>(value)); }  // a candidate may hold on to it
template <class T> T&& some() noexcept;

template <class T> struct Numeric { static const bool is = false; };
#define RLVR_NUMBERS(X)                                                                                        \
    X(bool) X(char) X(signed char) X(unsigned char) X(wchar_t) X(char16_t) X(char32_t) X(short)                \
    X(unsigned short) X(int) X(unsigned) X(long) X(unsigned long) X(long long) X(unsigned long long) X(float)  \
    X(double) X(long double)
#define RLVR_NUMERIC(T) template <> struct Numeric<T> { static const bool is = true, has_fraction = static_cast<T>(0.5) != static_cast<T>(0) && static_cast<T>(0.5) != static_cast<T>(1); };
RLVR_NUMBERS(RLVR_NUMERIC)
#undef RLVR_NUMERIC
// A number with a fraction is planned, and whatever number stands in for it, as a test's own variable would take it.
template <class P, class T> constexpr bool is_fraction() {
    if constexpr (Numeric<P>::is && Numeric<T>::is) return Numeric<P>::has_fraction;
    else return false;
}
template <class P, class T> constexpr bool are_whole() {
    if constexpr (Numeric<P>::is && Numeric<T>::is) return !Numeric<P>::has_fraction && !Numeric<T>::has_fraction;
    else return false;
}

// Whether T is text like std::string_view, or may be nothing like std::optional: a test compares such with what they hold.
template <class T> constexpr bool is_text(...) { return false; }
template <class T, class Data = decltype(some<const T&>().data()), class = decltype(some<const T&>().size())>
constexpr bool is_text(int) { return Same<Data, const char*>::value; }
template <class T> constexpr bool may_be_nothing(...) { return false; }
template <class T, class = decltype(some<const T&>().has_value()), class = decltype(*some<const T&>())>
constexpr bool may_be_nothing(int) { return true; }
// What nothing travels as: it equals no number, and no text that a test has a reason to expect.
template <class P> void give_nothing(Writer& out) {
    if constexpr (Same<P, AnyNumber>::value) out.put(AnyNumber{__builtin_nanl("")});
    else out.put(P("\1rlvr: nothing"));
}

// Sends a value of the planned type P: one of another type is no answer, but for a number: a whole one has to fit.
// By value: a constant of a class that nobody defines must not be referred to.
template <class P, class T> void give(Writer& out, T value) {
    if constexpr (Same<P, T>::value) Codec<P>::put(out, value);
    else if constexpr (Same<P, AnyNumber>::value && Numeric<T>::is) out.put(AnyNumber{static_cast<long double>(value)});
    else if constexpr (Numeric<P>::is && __is_enum(T)) out.put<P>(static_cast<P>(value));
    else if constexpr (is_fraction<P, T>()) out.put<P>(static_cast<P>(value));
    else if constexpr (are_whole<P, T>()) {
        const P same = static_cast<P>(value);
        if (static_cast<T>(same) != value || (same < static_cast<P>(0)) != (value < static_cast<T>(0))) lost();
        out.put<P>(same);
    }
#ifdef RLVR_STRING
    else if constexpr (Same<P, std::string>::value && (Same<T, const char*>::value || Same<T, char*>::value))
        out.put<P>(std::string(value));
    else if constexpr (Same<P, std::string>::value && is_text<T>(0)) out.put<P>(std::string(value.data(), value.size()));
    else if constexpr (Same<P, std::string>::value && may_be_nothing<T>(0)) {
        if (value.has_value()) give<P>(out, *value);
        else give_nothing<P>(out);
    }
#endif
    else if constexpr (Same<P, AnyNumber>::value && may_be_nothing<T>(0)) {
        if (value.has_value()) give<P>(out, *value);
        else give_nothing<P>(out);
    }
#ifdef RLVR_VECTOR
    else if constexpr (Same<P, bool>::value && Same<T, std::vector<bool>::reference>::value) out.put<P>(value);
#endif
    else static_assert(sizeof(T) == 0, "the tests ask for a value of another type here");
}
template <class T> void give_truth(Writer& out, const T& value) { out.put<bool>(value ? true : false); }
// A comparison that is asked with other literals, too. Who can catch what it throws is thrown it.
template <class F> void give_comparison(Writer& out, const F& holds) {
#ifdef RLVR_EXCEPTIONS
    out.put<int>(holds());
#else
    int answer = THREW_INSTEAD;
    try {
        answer = holds();
    } catch (...) {
    }
    out.put(answer);
#endif
}

#ifdef RLVR_PROBE
// Leaves the type of an expression in the name of a function, for the planner to read.
template <int Thunk, class T> void value_type() {}
template <class T, bool = __is_enum(T)> struct Sent { typedef T type; };
template <class T> struct Sent<T, true> { typedef __underlying_type(T) type; };
template <class T> struct Decayed : Sent<typename Bare<T>::type> {};
template <class T, Size N> struct Decayed<T[N]> { typedef T* type; };
template <class T, Size N> struct Decayed<const T[N]> { typedef const T* type; };
template <int Thunk, class T> void probe(const T&) { value_type<Thunk, typename Decayed<T>::type>(); }
#endif

typedef void (*Thunk)(Reader& in, Writer& out);
struct Table {
    const Thunk* thunks;
    unsigned count;
};
RLVR_ONCE Table& table() {
    static Table all = {nullptr, 0};
    return all;
}
// Inside of a handler: sends the exception that is being handled. Defined behind the candidate's classes.
void put_own_exception(Writer& out, unsigned number);

RLVR_ONCE void evaluate(Byte kind, Reader& in, Writer& out) {
    const unsigned which = in.get<unsigned>();
    if (kind == DROP) {
        Slot slot = slots().at(which);
        slots().at(which).end = nullptr;
        if (slot.end != nullptr) slot.end(slot.object);
    } else {
        if (kind != CALL || which >= table().count) lost();
        table().thunks[which](in, out);
    }
}
RLVR_ONCE void answer(Reader& in, Byte kind) {
    const unsigned number = in.get<unsigned>();
    Writer out;
    out.put(RETURNED);
    out.put(number);
#ifdef RLVR_EXCEPTIONS
    try {
        evaluate(kind, in, out);
    } catch (...) {
        out.message.used = 0;
        put_own_exception(out, number);
    }
#else
    evaluate(kind, in, out);
#endif
    send(CHANNEL, out.message);
}
RLVR_ONCE void put_thrown_by_library(Writer& out, unsigned number) {
#ifdef RLVR_EXCEPTIONS
    out.put(THREW);
    out.put(number);
    put_exception(out);
#else
    (void)out, (void)number;
#endif
}
#ifdef RLVR_STANDARD_EXCEPTIONS
// Inside of a handler: whether a handler of T would have caught the same, and the slot of what it would have been given.
template <class T> bool is_caught_as(unsigned& slot) {
    try {
        throw;
    } catch (const T& error) {
        slot = refer(error);
        return true;
    } catch (...) {
        return false;
    }
}
template <class... Classes> void put_thrown_as(Writer& out, unsigned number) {
    unsigned slots[sizeof...(Classes)], used = 0, classes = 0, bit = 1;
    ((is_caught_as<Classes>(slots[used]) ? (++used, classes |= bit) : 0u, bit <<= 1), ...);
    if (classes == 0) return put_thrown_by_library(out, number);
    new std::exception_ptr(std::current_exception());  // never released: the test may ask it for something
    out.put(THREW_OWN);
    out.put(number);
    out.put(classes);
    for (unsigned n = 0; n < used; ++n) out.put(slots[n]);
    put_exception(out);
}
#endif

// The result of a call back, with everything that the oracle asks meanwhile.
RLVR_ONCE void await_result(Buffer& result) {
    for (;;) {
        if (!receive(CHANNEL, result)) gone();
        Reader in(result);
        const Byte kind = in.get<Byte>();
        if (kind == RESULT) return;
        answer(in, kind);
    }
}

inline void put_each(Writer&) {}
template <class A, class... Rest> void put_each(Writer& out, const A& first, const Rest&... rest) {
    out.put<A>(first);
    put_each(out, rest...);
}
template <class Signature> struct Stub;
template <class R, class... A> struct Stub<R(A...)> {  // a function of the test
    unsigned function;

    R operator()(A... arguments) const {
        Writer out;
        out.put(CALLED);
        out.put(function);
        put_each(out, static_cast<const typename Bare<A>::type&>(arguments)...);
        send(CHANNEL, out.message);
        Buffer result;
        await_result(result);
        Reader in(result);
        in.get<Byte>();
        const Byte outcome = in.get<Byte>();
        if (outcome != RETURNED) {
#ifdef RLVR_EXCEPTIONS
            throw_again(outcome, get_text(in));
#else
            lost();
#endif
        }
        if constexpr (!Same<R, void>::value) return in.get<typename Bare<R>::type>();
    }
};

RLVR_ONCE int serve_table(const Thunk* thunks, unsigned count) {
    table() = Table{thunks, count};
    for (Buffer request; receive(CHANNEL, request);) {
        Reader in(request);
        const Byte kind = in.get<Byte>();
        answer(in, kind);
    }
    return 0;
}
#endif

}  // namespace rlvr
