// Areas made more than once: `init` again and reset_area, with constructed variables in them.
#include <percpu/percpu.hpp>

#include <stdlib.h>

#include "check.hpp"

static size_t constructed, destroyed;

struct Node {
    Node* self;
    int visits;

    explicit Node(int first) : self(this), visits(first) { ++constructed; }
    ~Node() { ++destroyed; }
};

PERCPU_DEFINE_CONSTRUCTED(Node, node, 3);
PERCPU_DEFINE(uint32_t, word, 7);
PERCPU_DEFINE(uint8_t[13], odd, 1, 2, 3);
PERCPU_DEFINE_ALIGNED(uint64_t, line, 9);

#if defined(PERCPU_CHECKED)
extern "C" void percpu_panic(const char* message) noexcept {
    puts(message);
    exit(42);
}
#endif

static bool is_pristine(size_t cpu) {
    return word.remote_ref_raw(cpu) == 7 && odd.remote_ref_raw(cpu)[2] == 3 && odd.remote_ref_raw(cpu)[12] == 0 &&
           line.remote_ref_raw(cpu) == 9 && node.remote_ref_raw(cpu).self == node.remote_ptr(cpu) &&
           node.remote_ref_raw(cpu).visits == 3;
}

// As each CPU would: every variable of every area is written.
static void use(size_t count) {
    for (size_t cpu = 0; cpu < count; ++cpu) {
        percpu::init_percpu_reg(cpu);
        word.add_current(static_cast<uint32_t>(cpu + 1));
        line.fetch_add_current(1);
        odd.with_current([](uint8_t (&it)[13]) {
            for (uint8_t& byte : it) byte = 0xff;
        });
        node.with_current([](Node& it) { it.visits = 100; });
        CHECK(!is_pristine(cpu));
    }
}

#if defined(PERCPU_SP_NAIVE)

int main() {
    CHECK(percpu::init_in_place().has_value());
    CHECK(constructed == 1 && is_pristine(0));
    use(1);
    CHECK(percpu::reset_area(0) == percpu::Unexpected{percpu::ResetError::TemplateInUse});
    CHECK(percpu::reset_area(1) == percpu::Unexpected{percpu::ResetError::InvalidCpu});
    CHECK(constructed == 1 && word.read_current() == 8);
    return failures != 0;
}

#else

// One area after the other, from any state, and nothing else.
static void check_reset(size_t count) {
    use(count);
    for (size_t cpu = 0; cpu < count; ++cpu) {
        const size_t before = constructed;
        percpu::init_percpu_reg(cpu);
        CHECK(percpu::reset_area(cpu) == percpu::percpu_area_base(cpu));
        CHECK(constructed == before + 1);
        // What the architecture keeps in an area is there again, too.
        CHECK(word.current_ptr() == word.remote_ptr(cpu));
        for (size_t other = 0; other < count; ++other) CHECK(is_pristine(other) == (other <= cpu));
        CHECK(word.fetch_add_current(0) == 7);
    }
    CHECK(percpu::reset_area(count) == percpu::Unexpected{percpu::ResetError::InvalidCpu});
    CHECK(destroyed == 0);
}

int main() {
    const size_t count = percpu::percpu_area_num();
    CHECK(percpu::init_in_place() == count);
    CHECK(constructed == count);
    use(count);
#if defined(PERCPU_PRISTINE)
    CHECK(percpu::init_in_place() == count);
    CHECK(constructed == 2 * count);
    for (size_t cpu = 0; cpu < count; ++cpu) CHECK(is_pristine(cpu));
    check_reset(count);
#else
    // What area 0 holds is no template any more.
    for (size_t cpu = 0; cpu < count; ++cpu)
        CHECK(percpu::reset_area(cpu) == percpu::Unexpected{percpu::ResetError::TemplateInUse});
    CHECK(percpu::reset_area(count) == percpu::Unexpected{percpu::ResetError::InvalidCpu});
    CHECK(constructed == count);
    for (size_t cpu = 0; cpu < count; ++cpu) CHECK(!is_pristine(cpu));
    // Give it back what the loader had put there, so that the areas elsewhere begin with that.
    percpu::init_percpu_reg(0);
    word.reset_to_init();
    odd.reset_to_init();
    line.reset_to_init();
#endif
    constructed = 0;
    const percpu::AreaLayout layout = percpu::percpu_area_layout_expected(3);
    auto* const memory = static_cast<unsigned char*>(aligned_alloc(layout.alignment, layout.size + 64));
    for (size_t i = 0; i < layout.size + 64; ++i) memory[i] = 0x5a;
    CHECK(percpu::init(memory, 3) == size_t{3});
    CHECK(constructed == 3);
    for (size_t cpu = 0; cpu < 3; ++cpu) CHECK(is_pristine(cpu));
    check_reset(3);
    for (size_t i = 0; i < 64; ++i) CHECK(memory[layout.size + i] == 0x5a);
    free(memory);
    return failures != 0;
}

#endif
