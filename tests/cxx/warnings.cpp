// Every macro and every accessor, in a file of a kernel that asks for more warnings than most.
#include <percpu/percpu.hpp>

struct Pair {
    int first, second;
};
struct Owner {
    explicit Owner(int initial) : owned(initial) {}
    ~Owner() {}
    int owned;
};
PERCPU_DECLARE(int, declared);
PERCPU_DECLARE_NEAR(int, declared_near);
PERCPU_DECLARE(Owner, owner);
PERCPU_DEFINE(int, declared, 1);
PERCPU_DEFINE_NEAR(int, declared_near, 1);
PERCPU_DEFINE_CONSTRUCTED(Owner, owner, 1);
PERCPU_DEFINE(Pair, pair, 1, 2);
PERCPU_DEFINE(Pair[2], pairs, {1, 2}, {3, 4});
PERCPU_DEFINE(float, single_precision, 1);
PERCPU_DEFINE(double, double_precision, 1);
PERCPU_DEFINE(unsigned char, byte, 1);
PERCPU_DEFINE(unsigned long long, widest, 1);
PERCPU_DEFINE(int*, pointer, nullptr);
PERCPU_DEFINE(bool, flag, true);
PERCPU_DEFINE_ALIGNED(int, aligned_word, 1);
PERCPU_DEFINE_PAGE_ALIGNED(int, page, 1);
PERCPU_DEFINE_READ_MOSTLY(int, limit, 1);
PERCPU_DEFINE_STATIC(int, own_word, 1);
PERCPU_DEFINE_STATIC_NEAR(int, own_near_word, 1);

namespace {

template <class Variable, class T>
void every_access(const Variable& variable, T value) {
    T expected = variable.read_current();
    expected = variable.read_current_stable();
    variable.write_current(value);
    expected = variable.exchange_current(value);
    if (variable.compare_exchange_current(expected, value)) variable.reset_to_init();
    *variable.current_ref() = value;
    if (variable.remote_ref(1).has_value()) variable.with_current([value](T& copy) { copy = value; });
}

template <class Variable, class T>
void every_count(const Variable& variable, T value) {
    every_access(variable, value);
    variable.add_current(value);
    variable.sub_current(value);
    static_cast<void>(variable.fetch_add_current(value));
    if (variable.sum() != 0) variable.write_current(value);
}

template <class Variable, class T>
void every_bit(const Variable& variable, T value) {
    variable.and_current(value);
    variable.or_current(value);
    variable.xor_current(value);
}

}  // namespace

extern "C" void use_everything();
extern "C" void use_everything() {
    if (percpu::init_in_place().has_value()) percpu::init_percpu_reg(0);
    every_count(declared, 2);
    every_count(declared_near, 2);
    every_count(own_word, 2);
    every_count(own_near_word, 2);
    every_count(single_precision, 2.0F);
    every_count(double_precision, 2.0);
    every_count(byte, static_cast<unsigned char>(2));
    every_count(widest, 2ULL);
    every_access(pointer, static_cast<int*>(nullptr));
    every_access(flag, false);
    every_bit(flag, false);
    every_bit(byte, static_cast<unsigned char>(2));
    pair.reset_to_init();
    pairs.reset_to_init();
    owner.reset_to_init();
}
