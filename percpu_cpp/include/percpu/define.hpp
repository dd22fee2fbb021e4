// Declaring and defining per-CPU variables.
//
//   macro                        when do I want it?
//   PERCPU_DEFINE                a variable, in one source file
//   PERCPU_DECLARE               the same variable, in a header; whatever family defines it
//   PERCPU_DEFINE_STATIC         a variable that one source file keeps to itself
//   PERCPU_DEFINE_NEAR           a hot variable: fewest instructions, but near ones share a few KiB
//   PERCPU_DECLARE_NEAR          goes with it; a near declaration of a far variable does not link
//   PERCPU_DEFINE_STATIC_NEAR
//   PERCPU_DEFINE_ALIGNED        a variable that other CPUs write too: cache lines of its own
//   PERCPU_DEFINE_PAGE_ALIGNED   a stack, a page table, a page that the MMU protects
//   PERCPU_DEFINE_READ_MOSTLY    read often, written almost never: away from what is written often
//   PERCPU_DEFINE_CONSTRUCTED    a type whose constructor must run, or which points at itself
//
//   PERCPU_DEFINE(T, name, init...) is for `T name{init...};`. The initializer must be a constant
//   expression, for the areas are made by copying bytes: a pointer into the object itself would point
//   into the template afterwards. T need not be copyable, and may have volatile members; it needs a trivial
//   destructor, for areas are never destroyed. A T with a comma in it, or an array of functions, wants an alias first.
//
//   PERCPU_DEFINE_CONSTRUCTED(T, name, args...) runs T's constructor with the arguments once in each
//   area, in `init` or `init_in_place`, when all areas are there; and once in the area that `reset_area`
//   makes anew. Its destructor is never run, and may be deleted: a new object takes the place of the old one, whose
//   memory, locks and the like the kernel has given back before.
//
// They stand at namespace scope, and alone: nothing like `inline`, `template` or `static` goes before
// them. A per-CPU variable is one place in the template; a template's or an inline variable's storage
// would be made once for each file that uses it.

#pragma once

#include "variable.hpp"

namespace percpu::detail {

template <class T>
using Identity = T;

// An aligned attribute replaces the type's own alignment in Clang, also by a smaller one.
template <class T>
constexpr size_t alignment_at_least(size_t alignment) {
    return alignof(T) > alignment ? alignof(T) : alignment;
}

template <class T>
inline constexpr bool is_array = false;
template <class T, size_t size>
inline constexpr bool is_array<T[size]> = true;

// GCC has the newer trait from 14 on, Clang calls the older one deprecated. That one is true of a destructor that is
// deleted or private, too.
#if __has_builtin(__is_trivially_destructible)
template <class T>
inline constexpr bool destroyed_trivially = __is_trivially_destructible(T);
#else
template <class T>
inline constexpr bool destroyed_trivially = __has_trivial_destructor(T) && requires(T& object) { object.~T(); };
template <class T, size_t size>
inline constexpr bool destroyed_trivially<T[size]> = destroyed_trivially<T>;
#endif

// An array that `new` makes as a class: `new T[]` has an operator of its own, and may keep the number of elements.
template <class T>
struct Holder {
    T value;
};

// What stands for a T in its storage: a union of what has a destructor would have one itself.
template <class T, bool trivially = destroyed_trivially<T>>
struct Held {
    using type = T;
};
template <class T>
struct Held<T, false> {
    struct type {
        alignas(T) unsigned char bytes[sizeof(T)];
    };
};

// The storage of a T in the template. All families have the same type, so that PERCPU_DECLARE need not
// know which one defines the variable, and what T is. A constructed T begins as zero bytes.
template <class T>
union Storage {
    unsigned char zero;
    typename Held<T>::type value;
};

// Construction at an address, without <new>, whose placement form the standard library also defines.
struct Place {
    void* address;
};

template <class T>
inline constexpr bool is_complete_object = requires { sizeof(T); };
template <class T>
inline constexpr bool is_complete_object<T&> = false;
template <class T>
inline constexpr bool is_complete_object<T&&> = false;

template <class T>
constexpr bool can_be_percpu() {
    static_assert(is_complete_object<T>,
                  "percpu: a per-CPU variable is an object of a complete type: no reference, void, function, or array without a size");
    if constexpr (is_complete_object<T>) {
        static_assert(!__is_same(T, const T), "percpu: a per-CPU variable cannot be const: every CPU has its own copy to write");
        static_assert(!__is_same(T, volatile T),
                      "percpu: a per-CPU variable cannot be volatile: leave that out, each read_current reads anew; or make it a member of a struct");
    }
    return true;
}

template <class T>
constexpr bool can_be_copied_as_bytes() {
    if constexpr (is_complete_object<T>)
        static_assert(destroyed_trivially<T>,
                      "percpu: this type has a destructor, but areas are never destroyed: use PERCPU_DEFINE_CONSTRUCTED");
    return can_be_percpu<T>();
}

}  // namespace percpu::detail

// Not noexcept: that says of an allocation that it gives null when it fails, and compilers would ask.
__attribute__((always_inline)) inline void* operator new(size_t, percpu::detail::Place percpu_place) {
    return percpu_place.address;
}

#if defined(PERCPU_ALL_NEAR)
#define PERCPU_DETAIL_FAR ::percpu::Reach::near
#else
#define PERCPU_DETAIL_FAR ::percpu::Reach::far
#endif
#define PERCPU_DETAIL_NEAR ::percpu::Reach::near

#define PERCPU_DETAIL_HIDDEN __attribute__((visibility("hidden")))

// The names in what follows begin with percpu, for an initializer names what it likes.

// Makes the storage of T{init...}, in a function for its narrowing is then judged with the constants in sight. A
// function can return the storage of any T: also of an array, of what can be neither copied nor moved, and of what
// has volatile members, for a union that has a member without those is a literal type.
#define PERCPU_DETAIL_MAKE(T, ...)                                                          \
    []<class PercpuT>() constexpr {                                                         \
        if constexpr (::percpu::detail::is_array<PercpuT>)                                  \
            return ::percpu::detail::Storage<PercpuT>{.value = {__VA_ARGS__}};              \
        else                                                                                \
            return ::percpu::detail::Storage<PercpuT>{.value = PercpuT{__VA_ARGS__}};       \
    }.template operator()<::percpu::detail::Identity<T>>()

// Each definition begins with a static_assert, which `inline`, `static` and `template` cannot precede.
#define PERCPU_DETAIL_DECLARE(T, name, storage, reach)                                            \
    extern PERCPU_DETAIL_HIDDEN ::percpu::detail::Storage<::percpu::detail::Identity<T>> storage; \
    _Pragma("GCC diagnostic push")                                                                \
    _Pragma("GCC diagnostic ignored \"-Wredundant-decls\"")                                       \
    PERCPU_DETAIL_HIDDEN void percpu_initialize_##name(void*) noexcept;                           \
    _Pragma("GCC diagnostic pop")                                                                 \
    extern PERCPU_DETAIL_HIDDEN const                                                             \
        ::percpu::Variable<::percpu::detail::Identity<T>, __builtin_addressof(storage), &percpu_initialize_##name, reach> name

#define PERCPU_DETAIL_DEFINE(T, name, storage, reach, section_name, alignment, ...)                       \
    static_assert(::percpu::detail::can_be_copied_as_bytes<::percpu::detail::Identity<T>>());             \
    PERCPU_DETAIL_DECLARE(T, name, storage, reach);                                                       \
    __attribute__((PERCPU_DETAIL_IN_TEMPLATE(section_name),                                               \
                   aligned(::percpu::detail::alignment_at_least<::percpu::detail::Identity<T>>(alignment)))) constinit \
        ::percpu::detail::Storage<::percpu::detail::Identity<T>>                                          \
            storage = PERCPU_DETAIL_MAKE(T, __VA_ARGS__);                                                 \
    PERCPU_DETAIL_INITIALIZE(, T, name, __VA_ARGS__)                                                      \
    constexpr ::percpu::Variable<::percpu::detail::Identity<T>, __builtin_addressof(storage), &percpu_initialize_##name, reach> name {}

#define PERCPU_DETAIL_DEFINE_STATIC(T, name, storage, reach, section_name, ...)                           \
    static_assert(::percpu::detail::can_be_copied_as_bytes<::percpu::detail::Identity<T>>());             \
    __attribute__((PERCPU_DETAIL_IN_TEMPLATE(section_name))) static constinit                             \
        ::percpu::detail::Storage<::percpu::detail::Identity<T>>                                          \
            storage = PERCPU_DETAIL_MAKE(T, __VA_ARGS__);                                                 \
    PERCPU_DETAIL_INITIALIZE([[maybe_unused]] static, T, name, __VA_ARGS__)                               \
    [[maybe_unused]] static constexpr                                                                     \
        ::percpu::Variable<::percpu::detail::Identity<T>, __builtin_addressof(storage), &percpu_initialize_##name, reach>     \
            name {}

// Makes the object in its place: a destructor that cannot be called would keep it from being made elsewhere. Of a
// number the bits are stored, for GCC's -mgeneral-regs-only takes no floating-point store, not even of a constant.
#define PERCPU_DETAIL_INITIALIZE(linkage, T, name, ...)                                                       \
    linkage __attribute__((cold)) void percpu_initialize_##name(void* percpu_at) noexcept {                   \
        []<class PercpuT>(::percpu::detail::Place percpu_place) {                                             \
            if constexpr (::percpu::detail::is_array<PercpuT>)                                                \
                ::new (percpu_place)::percpu::detail::Holder<PercpuT>{{__VA_ARGS__}};                         \
            else if constexpr (::percpu::detail::kind_of<PercpuT> == ::percpu::ScalarKind::floating) {        \
                const auto percpu_bits =                                                                      \
                    __builtin_bit_cast(typename ::percpu::detail::ValueOf<PercpuT>::word, PercpuT{__VA_ARGS__}); \
                __builtin_memcpy(percpu_place.address, &percpu_bits, sizeof percpu_bits);                     \
            }                                                                                                 \
            else                                                                                              \
                ::new (percpu_place) PercpuT{__VA_ARGS__};                                                    \
        }.template operator()<::percpu::detail::Identity<T>>(::percpu::detail::Place{percpu_at});             \
    }

#define PERCPU_DECLARE(T, name) PERCPU_DETAIL_DECLARE(T, name, percpu_storage_##name, PERCPU_DETAIL_FAR)
#define PERCPU_DECLARE_NEAR(T, name) PERCPU_DETAIL_DECLARE(T, name, percpu_near_##name, PERCPU_DETAIL_NEAR)

#define PERCPU_DEFINE(T, name, ...)                                                             \
    PERCPU_DETAIL_DEFINE(T, name, percpu_storage_##name, PERCPU_DETAIL_FAR, ".percpu." #name, 1, \
                         __VA_ARGS__)
#define PERCPU_DEFINE_NEAR(T, name, ...)                                                             \
    PERCPU_DETAIL_DEFINE(T, name, percpu_near_##name, PERCPU_DETAIL_NEAR, ".percpu..near." #name, 1, \
                         __VA_ARGS__)
#define PERCPU_DEFINE_ALIGNED(T, name, ...)                                                             \
    PERCPU_DETAIL_DEFINE(T, name, percpu_storage_##name, PERCPU_DETAIL_FAR, ".percpu..aligned." #name,  \
                         PERCPU_CACHE_LINE, __VA_ARGS__)
#define PERCPU_DEFINE_PAGE_ALIGNED(T, name, ...)                                                             \
    PERCPU_DETAIL_DEFINE(T, name, percpu_storage_##name, PERCPU_DETAIL_FAR, ".percpu..page_aligned." #name,  \
                         4096, __VA_ARGS__)
#define PERCPU_DEFINE_READ_MOSTLY(T, name, ...)                                                             \
    PERCPU_DETAIL_DEFINE(T, name, percpu_storage_##name, PERCPU_DETAIL_FAR, ".percpu..read_mostly." #name,  \
                         1, __VA_ARGS__)

#define PERCPU_DEFINE_STATIC(T, name, ...)                                                            \
    PERCPU_DETAIL_DEFINE_STATIC(T, name, percpu_storage_##name, PERCPU_DETAIL_FAR, ".percpu." #name, \
                                __VA_ARGS__)
#define PERCPU_DEFINE_STATIC_NEAR(T, name, ...)                                                            \
    PERCPU_DETAIL_DEFINE_STATIC(T, name, percpu_near_##name, PERCPU_DETAIL_NEAR, ".percpu..near." #name, \
                                __VA_ARGS__)

// The table entry is a function, which finds the variable in the area by its offset: a storage address
// in the table would be one that a PIE has to relocate.
#define PERCPU_DEFINE_CONSTRUCTED(T, name, ...)                                                      \
    static_assert(::percpu::detail::can_be_percpu<::percpu::detail::Identity<T>>());                 \
    PERCPU_DECLARE(T, name);                                                                         \
    __attribute__((PERCPU_DETAIL_IN_TEMPLATE(".percpu." #name))) constinit                           \
        ::percpu::detail::Storage<::percpu::detail::Identity<T>>                                     \
            percpu_storage_##name{};                                                          \
    PERCPU_DETAIL_INITIALIZE(, T, name, __VA_ARGS__)                                                 \
    static void percpu_construct_##name(uintptr_t percpu_area) noexcept {                            \
        percpu_initialize_##name(reinterpret_cast<void*>(percpu_area + name.offset()));              \
    }                                                                                                \
    __attribute__((section("percpu_constructors"), used)) static void (*const percpu_constructor_##name)( \
        uintptr_t) = percpu_construct_##name;                                                        \
    constexpr ::percpu::Variable<::percpu::detail::Identity<T>, &percpu_storage_##name,              \
                                 &percpu_initialize_##name, PERCPU_DETAIL_FAR>                       \
        name {}
