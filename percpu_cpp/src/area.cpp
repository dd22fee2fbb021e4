// Makes the areas, and states in an ELF note what the runtime was built for.

#include <percpu/area.hpp>

extern "C" {
// The compiler calls these in freestanding code too, so every kernel has them (GCC manual, "Standards").
void* memcpy(void* to, const void* from, size_t size);
}

namespace percpu {

#if defined(PERCPU_ARCH_X86_64) && !defined(PERCPU_SP_NAIVE) && !PERCPU_BASE_REGISTER_IS(user)
namespace arch {
__attribute__((section(".percpu..first"))) constinit Header percpu_storage_header{};
}
#endif

#if defined(PERCPU_SP_NAIVE)

Result<size_t, InitError> init_in_place() noexcept { return size_t{1}; }
Result<size_t, InitError> init(void*, size_t) noexcept { return size_t{1}; }
size_t percpu_area_num() noexcept { return 1; }
size_t percpu_area_size() noexcept { return 0; }
AreaLayout percpu_area_layout_expected(size_t) noexcept { return {0, PERCPU_CACHE_LINE}; }

#else

// The linker script's symbols. A weak one may be missing: scripts written for the Rust crate have only
// the first four.
extern "C" {
extern char _percpu_start[] __attribute__((visibility("hidden")));
extern char _percpu_end[] __attribute__((visibility("hidden")));
extern char _percpu_load_start[] __attribute__((visibility("hidden")));
extern char _percpu_load_end[] __attribute__((visibility("hidden")));
extern char _percpu_stride[] __attribute__((weak, visibility("hidden")));
extern char _percpu_alignment[] __attribute__((weak, visibility("hidden")));
extern char _percpu_cpu_num[] __attribute__((weak, visibility("hidden")));
using Constructor = void (*)(uintptr_t area);
extern const Constructor _percpu_constructors_start[] __attribute__((weak, visibility("hidden")));
extern const Constructor _percpu_constructors_end[] __attribute__((weak, visibility("hidden")));
}

namespace detail {

// In .data, though it is all zeros: the fragment is inserted behind that section, and in a program without a
// linker script of its own lld refuses if there is none.
__attribute__((section(".data"))) constinit Areas areas{};

namespace {

// 1 while a CPU makes the areas. A whole word: where a CPU exchanges no single byte (RISC-V), GCC 12 would
// call libatomic, which kernels do not have.
constinit uint32_t initializing = 0;

// Values of symbols that are numbers, or addresses at which nothing of the kernel lies (the template's
// in the zero-VMA layout). Code that computes such an address from the program counter may not reach
// it, and is refused in a PIE; a word in memory always holds it. Volatile, so that the compiler does
// not look through the word and compute the address after all.
const char* const volatile stride_symbol = _percpu_stride;
const char* const volatile alignment_symbol = _percpu_alignment;
const char* const volatile cpu_num_symbol = _percpu_cpu_num;
const Constructor* const volatile constructors_start_symbol = _percpu_constructors_start;
const Constructor* const volatile constructors_end_symbol = _percpu_constructors_end;

size_t number(const char* symbol) noexcept { return reinterpret_cast<size_t>(symbol); }

#if defined(PERCPU_NON_ZERO_VMA)
size_t template_size() noexcept { return static_cast<size_t>(_percpu_load_end - _percpu_load_start); }
#else
const char* const volatile load_start_symbol = _percpu_load_start;
const char* const volatile load_end_symbol = _percpu_load_end;
size_t template_size() noexcept { return number(load_end_symbol) - number(load_start_symbol); }
#endif

size_t alignment() noexcept {
    size_t from_script = number(alignment_symbol);
    return from_script != 0 ? from_script : PERCPU_CACHE_LINE;
}

size_t stride() noexcept {
    size_t from_script = number(stride_symbol);
    if (from_script != 0) return from_script;
    return (template_size() + PERCPU_CACHE_LINE - 1) & ~size_t{PERCPU_CACHE_LINE - 1};
}

Result<size_t, InitError> make_areas(uintptr_t base, size_t cpu_count) noexcept {
    if (base == 0) return Unexpected{InitError::InvalidBase};
    if (base % alignment() != 0) return Unexpected{InitError::UnalignedBase};
    if (__atomic_exchange_n(&initializing, uint32_t{1}, __ATOMIC_ACQUIRE) != 0) return size_t{0};

    // Whoever asks for an area from now on waits until they are all made.
    __atomic_store_n(&areas.base, uintptr_t{0}, __ATOMIC_RELAXED);
    // Numbers of this function: the compiler cannot know that memcpy leaves those in memory alone.
    const size_t distance = stride();
    areas.stride = distance;
    areas.count = cpu_count;

    const uintptr_t loaded = reinterpret_cast<uintptr_t>(_percpu_start);
    const size_t size = template_size();
    uintptr_t area = base;
    for (size_t cpu = 0; cpu < cpu_count; ++cpu, area += distance) {
        if (area != loaded) memcpy(reinterpret_cast<void*>(area), _percpu_start, size);
        arch::adopt_area(area - template_address());
    }
    // Constructors run when every area is there, for they may look at other CPUs' variables; and after
    // the copies, for the source of these may be area 0, which a constructor changes.
    const Constructor* const first = constructors_start_symbol;
    const Constructor* const last = constructors_end_symbol;
    if (first != last) {
        area = base;
        for (size_t cpu = 0; cpu < cpu_count; ++cpu, area += distance)
            for (const Constructor* construct = first; construct != last; ++construct) (*construct)(area);
    }

    __atomic_store_n(&areas.base, base, __ATOMIC_RELEASE);
    __atomic_store_n(&initializing, uint32_t{0}, __ATOMIC_RELEASE);
    return cpu_count;
}

}  // namespace

uintptr_t await_areas() noexcept {
    for (;;) {
        // In this order: a CPU that has finished has stored the base before it clears the flag.
        const bool busy = __atomic_load_n(&initializing, __ATOMIC_ACQUIRE) != 0;
        const uintptr_t base = __atomic_load_n(&areas.base, __ATOMIC_ACQUIRE);
        if (base != 0) return base;
        if (!busy) {
#if defined(PERCPU_CHECKED)
            percpu_panic("percpu: an area was asked for before init or init_in_place");
#else
            __builtin_trap();
#endif
        }
    }
}

#if defined(PERCPU_CHECKED)

void panic(const char* variable, const char* what) noexcept {
    // One line, without an allocation or a lock: the kernel may be in any state.
    static char line[160];
    size_t length = 0;
    const auto append = [&](const char* text) {
        while (*text != '\0' && length + 1 < sizeof line) line[length++] = *text++;
    };
    append("percpu: ");
    if (variable != nullptr) {
        append(variable);
        append(": ");
    }
    append(what);
    line[length] = '\0';
    percpu_panic(line);
}

static constinit bool template_in_use = false;

void note_area_in_use(uintptr_t area) noexcept {
    if (area == reinterpret_cast<uintptr_t>(_percpu_start)) __atomic_store_n(&template_in_use, true, __ATOMIC_RELAXED);
}

void check_current(const char* variable) noexcept {
    const uintptr_t area = read_percpu_reg();
    const bool in_template = area == reinterpret_cast<uintptr_t>(_percpu_start);
    const bool unset = in_template && !__atomic_load_n(&template_in_use, __ATOMIC_RELAXED);
    const uintptr_t base = __atomic_load_n(&areas.base, __ATOMIC_ACQUIRE);
    if (base == 0) {
        if (!in_template || unset) panic(variable, "used before init or init_in_place");
        return;
    }
    const uintptr_t distance = area - base;
    if (unset || distance / areas.stride >= areas.count || distance % areas.stride != 0)
        panic(variable, "the base register points outside every area: call init_percpu_reg on this CPU first");
}

void check_cpu(const char* variable, size_t cpu_id) noexcept {
    if (cpu_id >= area_count()) panic(variable, "CPU number out of range");
}

#endif

}  // namespace detail

Result<size_t, InitError> init_in_place() noexcept {
    return detail::make_areas(reinterpret_cast<uintptr_t>(_percpu_start), percpu_area_num());
}

Result<size_t, InitError> init(void* base, size_t cpu_count) noexcept {
    return detail::make_areas(reinterpret_cast<uintptr_t>(base), cpu_count);
}

size_t percpu_area_num() noexcept {
    const size_t from_script = detail::number(detail::cpu_num_symbol);
    if (from_script != 0) return from_script;
    const size_t reserved = static_cast<size_t>(_percpu_end - _percpu_start);
    return reserved == 0 ? 0 : reserved / detail::stride();
}

size_t percpu_area_size() noexcept { return detail::template_size(); }

AreaLayout percpu_area_layout_expected(size_t cpu_count) noexcept {
    size_t size;
    if (__builtin_mul_overflow(cpu_count, detail::stride(), &size)) size = SIZE_MAX;
    return {size, detail::alignment()};
}

#endif

}  // namespace percpu

#if defined(PERCPU_PREEMPT)
#define PERCPU_NOTE_PREEMPT "preempt,"
#else
#define PERCPU_NOTE_PREEMPT
#endif
#if defined(PERCPU_NON_ZERO_VMA)
#define PERCPU_NOTE_NON_ZERO_VMA "non-zero-vma,"
#else
#define PERCPU_NOTE_NON_ZERO_VMA
#endif
#if defined(PERCPU_ARM_EL2)
#define PERCPU_NOTE_ARM_EL2 "arm-el2,"
#else
#define PERCPU_NOTE_ARM_EL2
#endif
#if defined(PERCPU_RESTARTABLE)
#define PERCPU_NOTE_RESTARTABLE "restartable,"
#else
#define PERCPU_NOTE_RESTARTABLE
#endif
#if defined(PERCPU_SP_NAIVE)
#define PERCPU_NOTE_SP_NAIVE "sp-naive,"
#else
#define PERCPU_NOTE_SP_NAIVE
#endif
#if defined(PERCPU_ALL_NEAR)
#define PERCPU_NOTE_ALL_NEAR "all-near,"
#else
#define PERCPU_NOTE_ALL_NEAR
#endif
#if defined(PERCPU_CHECKED)
#define PERCPU_NOTE_CHECKED "checked,"
#else
#define PERCPU_NOTE_CHECKED
#endif
#if defined(PERCPU_LARGE_TEMPLATE)
#define PERCPU_NOTE_LARGE_TEMPLATE "large-template,"
#else
#define PERCPU_NOTE_LARGE_TEMPLATE
#endif
#if defined(PERCPU_X86_STACK_GUARD) && PERCPU_X86_STACK_GUARD
#define PERCPU_NOTE_STACK_GUARD "stack-guard=1\\n"
#else
#define PERCPU_NOTE_STACK_GUARD
#endif

#define PERCPU_NOTE_TEXT                                                                         \
    "version=" PERCPU_VERSION "\\n"                                                              \
    "arch=" PERCPU_ARCH_NAME "\\n"                                                               \
    "layout=" PERCPU_LAYOUT_NAME "\\n"                                                           \
    "features=" PERCPU_NOTE_ALL_NEAR PERCPU_NOTE_ARM_EL2 PERCPU_NOTE_CHECKED PERCPU_NOTE_LARGE_TEMPLATE \
        PERCPU_NOTE_NON_ZERO_VMA PERCPU_NOTE_PREEMPT PERCPU_NOTE_RESTARTABLE PERCPU_NOTE_SP_NAIVE "\\n"                   \
    "base-register=" PERCPU_DETAIL_STRING(PERCPU_BASE_REGISTER) "\\n"                            \
    "cache-line=" PERCPU_DETAIL_STRING(PERCPU_CACHE_LINE) "\\n"                                  \
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
