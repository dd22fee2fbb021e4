// Makes the areas, and states in an ELF note what the runtime was built for.

#include <percpu/area.hpp>

// The linker script's symbols have names of the implementation's.
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wreserved-identifier"
#endif

extern "C" {
// The compiler calls these in freestanding code too, so every kernel has them (GCC manual, "Standards").
void* memcpy(void* to, const void* from, size_t size);
}

namespace percpu {

#if defined(PERCPU_ARCH_X86_64) && !defined(PERCPU_SP_NAIVE) && !PERCPU_BASE_REGISTER_IS(user)
namespace arch {
__attribute__((PERCPU_DETAIL_IN_TEMPLATE(".percpu..first"))) constinit Header percpu_storage_header{};
}
#endif

// The linker script's symbols. A weak one may be missing: scripts written for the Rust crate have only
// _percpu_start and _end, _percpu_load_start and _end.
extern "C" {
using Constructor = void (*)(uintptr_t area);
extern const Constructor _percpu_constructors_start[] __attribute__((weak, visibility("hidden")));
extern const Constructor _percpu_constructors_end[] __attribute__((weak, visibility("hidden")));
}

namespace detail {
namespace {

// Values of symbols that are numbers, or addresses at which nothing of the kernel lies (the template's
// in the zero-VMA layout). Code that computes such an address from the program counter may not reach
// it, and is refused in a PIE; a word in memory always holds it. Volatile, so that the compiler does
// not look through the word and compute the address after all.
const Constructor* const volatile constructors_start_symbol = _percpu_constructors_start;
const Constructor* const volatile constructors_end_symbol = _percpu_constructors_end;

// Runs the constructors in `count` areas.
void construct(uintptr_t area, size_t distance, size_t count) noexcept {
    const Constructor* const first = constructors_start_symbol;
    const Constructor* const last = constructors_end_symbol;
    if (first == last) return;
    for (size_t cpu = 0; cpu < count; ++cpu, area += distance)
        for (const Constructor* one = first; one != last; ++one) (*one)(area);
}

}  // namespace
}  // namespace detail

#if defined(PERCPU_SP_NAIVE)

Result<size_t, InitError> init_in_place() noexcept {
    detail::construct(0, 0, 1);
    return size_t{1};
}
Result<size_t, InitError> init(void*, size_t) noexcept { return init_in_place(); }
Result<uintptr_t, ResetError> reset_area(size_t cpu_id) noexcept {
    return Unexpected{cpu_id == 0 ? ResetError::TemplateInUse : ResetError::InvalidCpu};
}
size_t percpu_area_num() noexcept { return 1; }
size_t percpu_area_size() noexcept { return 0; }
AreaLayout percpu_area_layout_expected(size_t) noexcept { return {.size = 0, .alignment = PERCPU_CACHE_LINE}; }

#else

// Linkers cut an offset to what the immediate of a near access holds: that it fits, only an ASSERT of the script sees.
// A script rendered without all-near looks at the variables defined as near, and at no others.
#if defined(PERCPU_ALL_NEAR) && PERCPU_NEAR_REACH != 0
#define PERCPU_FITS_BY_SCRIPT 1
#else
#define PERCPU_FITS_BY_SCRIPT 0
#endif

extern "C" {
extern char _percpu_start[] __attribute__((visibility("hidden")));
extern char _percpu_end[] __attribute__((visibility("hidden")));
#if !defined(PERCPU_NON_ZERO_VMA)
extern char _percpu_load_start[] __attribute__((visibility("hidden")));
#endif
extern char _percpu_load_end[] __attribute__((visibility("hidden")));
extern char _percpu_stride[] __attribute__((weak, visibility("hidden")));
extern char _percpu_alignment[] __attribute__((weak, visibility("hidden")));
extern char _percpu_cpu_num[] __attribute__((weak, visibility("hidden")));
#if defined(PERCPU_PRISTINE)
// Not weak: a script rendered without the feature is refused at link.
extern char _percpu_template[] __attribute__((visibility("hidden")));
#endif
#if PERCPU_FITS_BY_SCRIPT
// Not weak either.
extern char _percpu_all_near[] __attribute__((visibility("hidden")));
#endif
}

namespace detail {

// In .data, though it is all zeros: the fragment is inserted behind that section, and in a program without a
// linker script of its own lld refuses if there is none. Used: debuggers look for it by its name, and with LTO
// Clang would make three variables of it.
__attribute__((section(".data"), used)) constinit Areas areas{};

namespace {

// How far the areas are. A whole word: where a CPU exchanges no single byte (RISC-V), GCC 12 would call
// libatomic, which kernels do not have. Never `not_begun` again once a CPU has claimed the work, so that one
// who reads it knows that nobody ever has, whatever it read before.
enum : uint32_t { not_begun, being_made, made };
constinit uint32_t progress = not_begun;

const char* const volatile stride_symbol = _percpu_stride;
const char* const volatile alignment_symbol = _percpu_alignment;
const char* const volatile cpu_num_symbol = _percpu_cpu_num;
#if PERCPU_FITS_BY_SCRIPT
const char* const volatile all_near_symbol = _percpu_all_near;
#endif

size_t number(const char* symbol) noexcept { return reinterpret_cast<size_t>(symbol); }

#if defined(PERCPU_NON_ZERO_VMA)
size_t template_size() noexcept { return static_cast<size_t>(_percpu_load_end - load_start); }
#else
const char* const volatile load_start_symbol = _percpu_load_start;
const char* const volatile load_end_symbol = _percpu_load_end;
size_t template_size() noexcept { return number(load_end_symbol) - number(load_start_symbol); }
#endif

// Where the loader put the template: it is the beginning of area 0 in place, unless it is kept apart.
#if defined(PERCPU_PRISTINE)
const char* loaded_template() noexcept { return _percpu_template; }
#else
const char* loaded_template() noexcept { return _percpu_start; }
#endif

size_t alignment() noexcept {
    const size_t from_script = number(alignment_symbol);
    return from_script != 0 ? from_script : PERCPU_CACHE_LINE;
}

size_t stride() noexcept {
    const size_t from_script = number(stride_symbol);
    if (from_script != 0) return from_script;
    return (template_size() + PERCPU_CACHE_LINE - 1) & ~size_t{PERCPU_CACHE_LINE - 1};
}

Result<size_t, InitError> make_areas(uintptr_t base, size_t cpu_count) noexcept {
    if (base == 0) return Unexpected{InitError::InvalidBase};
    // A power of two: a division would cost more than to copy a small area.
    if ((base & (alignment() - 1)) != 0) return Unexpected{InitError::UnalignedBase};
    if (__atomic_exchange_n(&progress, uint32_t{being_made}, __ATOMIC_ACQUIRE) == being_made) return size_t{0};

#if PERCPU_FITS_BY_SCRIPT
    // Without a use, --gc-sections would drop the word, and the reference with it.
    static_cast<void>(number(all_near_symbol));
#endif

    // Whoever asks for an area from now on waits until they are all made.
    __atomic_store_n(&areas.base, uintptr_t{0}, __ATOMIC_RELAXED);
    // Numbers of this function: the compiler cannot know that memcpy leaves those in memory alone.
    const size_t distance = stride();
    areas.stride = distance;
    areas.count = cpu_count;

    const char* const source = loaded_template();
    const auto loaded = reinterpret_cast<uintptr_t>(source);
    const size_t size = template_size();
    uintptr_t area = base;
    for (size_t cpu = 0; cpu < cpu_count; ++cpu, area += distance) {
        if (area != loaded) memcpy(reinterpret_cast<void*>(area), source, size);
        arch::adopt_area(area - template_address());
    }
    // Constructors run when every area is there, for they may look at other CPUs' variables; and after
    // the copies, for the source of these may be area 0, which a constructor changes.
    construct(base, distance, cpu_count);

    __atomic_store_n(&areas.base, base, __ATOMIC_RELEASE);
    __atomic_store_n(&progress, uint32_t{made}, __ATOMIC_RELEASE);
    return cpu_count;
}

// Copies by words, each stored at once, for other CPUs may read the area meanwhile. Both lie on cache lines, so
// the last word reaches beyond `size` into the padding of an area at most.
void copy_words(uintptr_t to, uintptr_t from, size_t size) noexcept {
    using Word __attribute__((may_alias)) = uintptr_t;
    const auto* const source = reinterpret_cast<const Word*>(from);
    auto* const target = reinterpret_cast<Word*>(to);
    const size_t count = (size + sizeof(Word) - 1) / sizeof(Word);
    for (size_t i = 0; i < count; ++i) __atomic_store_n(target + i, source[i], __ATOMIC_RELAXED);
}

}  // namespace

uintptr_t await_areas() noexcept {
    for (;;) {
        const uintptr_t base = __atomic_load_n(&areas.base, __ATOMIC_ACQUIRE);
        if (base != 0) return base;
        if (__atomic_load_n(&progress, __ATOMIC_ACQUIRE) == not_begun) {
#if defined(PERCPU_CHECKED)
            percpu_panic("percpu: an area was asked for before init or init_in_place");
#else
            __builtin_trap();
#endif
        }
    }
}

#if defined(PERCPU_CHECKED)

// The fragment rendered with `checked` has guards; another script has none.
extern "C" {
extern char _percpu_front_guard[] __attribute__((weak, visibility("hidden")));
extern char _percpu_back_guard[] __attribute__((weak, visibility("hidden")));
}

namespace {

const char* const volatile front_guard_symbol = _percpu_front_guard;
const char* const volatile back_guard_symbol = _percpu_back_guard;
bool (*const volatile preemptible_hook)() = percpu_preemptible;

// One line, made without an allocation or a lock, for the kernel may be in any state.
class Line {
public:
    Line& operator<<(const char* part) noexcept {
        while (*part != '\0' && length_ + 1 < sizeof text_) text_[length_++] = *part++;
        return *this;
    }
    Line& operator<<(size_t value) noexcept {
        char digits[24] = {};
        size_t at = sizeof digits - 1;
        do {
            digits[--at] = static_cast<char>('0' + value % 10);
            value /= 10;
        } while (value != 0);
        return *this << digits + at;
    }
    [[noreturn]] void stop() noexcept {
        text_[length_] = '\0';
        percpu_panic(text_);
    }

private:
    char text_[200];
    size_t length_ = 0;
};

// A line about a variable, or about an area where no variable is named.
Line about(const char* variable, size_t cpu_id) noexcept {
    Line line;
    if (variable != nullptr)
        line << "percpu: " << variable << ": ";
    else
        line << "percpu: area of CPU " << cpu_id << ": ";
    return line;
}

Line about(const char* variable) noexcept { return about(variable, 0); }

constinit bool template_in_use = false;

void check_guard(const char* variable, uintptr_t area, size_t cpu_id, const char* symbol, const char* where) noexcept {
    const uintptr_t place = area + (number(symbol) - template_address());
    if (__atomic_load_n(reinterpret_cast<const uint32_t*>(place), __ATOMIC_RELAXED) == PERCPU_GUARD_WORD) return;
    Line line = about(nullptr, cpu_id);
    line << "the guard word " << where << " its variables was overwritten";
    if (variable != nullptr) line << "; seen when " << variable << " was used";
    line.stop();
}

void check_guards(const char* variable, uintptr_t area, size_t cpu_id) noexcept {
    // The one in front may be at address 0, as a symbol that is missing is.
    if (number(back_guard_symbol) == 0) return;
    check_guard(variable, area, cpu_id, front_guard_symbol, "in front of");
    check_guard(variable, area, cpu_id, back_guard_symbol, "behind");
}

bool is_begun() noexcept { return __atomic_load_n(&progress, __ATOMIC_ACQUIRE) != not_begun; }

}  // namespace

void note_area_in_use(uintptr_t area) noexcept {
    if (area == reinterpret_cast<uintptr_t>(loaded_template()))
        __atomic_store_n(&template_in_use, true, __ATOMIC_RELAXED);
}

void check_current(const char* variable) noexcept {
    const uintptr_t area = read_percpu_reg();
    const bool in_template = area == reinterpret_cast<uintptr_t>(loaded_template());
#if defined(PERCPU_PRISTINE)
    const bool unset = in_template;
#else
    const bool unset = in_template && !__atomic_load_n(&template_in_use, __ATOMIC_RELAXED);
#endif
    const uintptr_t base = __atomic_load_n(&areas.base, __ATOMIC_ACQUIRE);
    if (base == 0) {
        if (!in_template || unset) (about(variable) << "used before init or init_in_place").stop();
        return;
    }
    const uintptr_t distance = area - base;
    const size_t cpu_id = distance / areas.stride;
    if (unset || cpu_id >= areas.count || distance % areas.stride != 0)
        (about(variable) << "the base register points outside every area: call init_percpu_reg on this CPU first")
            .stop();
    check_guards(variable, area, cpu_id);
}

void check_held(const char* variable) noexcept {
    bool (*const preemptible)() = preemptible_hook;
    if (preemptible != nullptr && preemptible())
        (about(variable) << "used raw while the thread may be preempted: hold the CPU, or use a guarded accessor")
            .stop();
}

void check_made(const char* variable) noexcept {
    if (!is_begun()) (about(variable) << "used before init or init_in_place").stop();
}

void check_cpu(const char* variable, size_t cpu_id) noexcept {
    if (!is_begun()) (about(variable, cpu_id) << "used before init or init_in_place").stop();
    const uintptr_t base = areas_base();
    if (cpu_id >= areas.count) {
        Line line = about(variable, cpu_id);
        if (variable != nullptr) line << "CPU number " << cpu_id << " is ";
        line << "out of range: areas were made for " << areas.count << " CPUs";
        line.stop();
    }
    check_guards(variable, base + cpu_id * areas.stride, cpu_id);
}

#endif

}  // namespace detail

Result<size_t, InitError> init_in_place() noexcept {
    return detail::make_areas(reinterpret_cast<uintptr_t>(_percpu_start), percpu_area_num());
}

Result<size_t, InitError> init(void* base, size_t cpu_count) noexcept {
    return detail::make_areas(reinterpret_cast<uintptr_t>(base), cpu_count);
}

Result<uintptr_t, ResetError> reset_area(size_t cpu_id) noexcept {
    const uintptr_t base = detail::areas_base();
    if (cpu_id >= detail::areas.count) return Unexpected{ResetError::InvalidCpu};
    const auto source = reinterpret_cast<uintptr_t>(detail::loaded_template());
    if (base == source) return Unexpected{ResetError::TemplateInUse};
    const uintptr_t area = base + cpu_id * detail::areas.stride;
    detail::copy_words(area, source, detail::template_size());
    arch::adopt_area(area - detail::template_address());
    detail::construct(area, 0, 1);
    return area;
}

size_t percpu_area_num() noexcept {
    const size_t from_script = detail::number(detail::cpu_num_symbol);
    if (from_script != 0) return from_script;
    const auto reserved = static_cast<size_t>(_percpu_end - _percpu_start);
    return reserved == 0 ? 0 : reserved / detail::stride();
}

size_t percpu_area_size() noexcept { return detail::template_size(); }

AreaLayout percpu_area_layout_expected(size_t cpu_count) noexcept {
    size_t size;
    if (__builtin_mul_overflow(cpu_count, detail::stride(), &size)) size = SIZE_MAX;
    return {.size = size, .alignment = detail::alignment()};
}

#endif

}  // namespace percpu

#if defined(PERCPU_X86_STACK_GUARD) && PERCPU_X86_STACK_GUARD
#define PERCPU_NOTE_STACK_GUARD "stack-guard=1\\n"
#else
#define PERCPU_NOTE_STACK_GUARD
#endif

#define PERCPU_NOTE_TEXT             \
    PERCPU_DETAIL_BUILT("\\n")       \
    "arch=" PERCPU_ARCH_NAME "\\n"   \
    "near-reach=" PERCPU_DETAIL_STRING(PERCPU_NEAR_REACH) "\\n" PERCPU_NOTE_STACK_GUARD

// A note as in the System V gABI, "Note Section": three words, the owner's name, the description; the
// parts are padded to 4 bytes. Not allocated ("" for flags), so that no linker script has to place it
// among the kernel's memory.
#define PERCPU_NOTE_ASM(text)                     \
    ".pushsection .note.percpu,\"\",%note\n"      \
    ".balign 4\n"                                 \
    ".long 2f - 1f, 4f - 3f, 1\n"                 \
    "1: .asciz \"percpu\"\n"                      \
    "2: .balign 4\n"                              \
    "3: .asciz \"" text "\"\n"                    \
    "4: .balign 4\n"                              \
    ".popsection\n"

asm(PERCPU_NOTE_ASM(PERCPU_NOTE_TEXT));
