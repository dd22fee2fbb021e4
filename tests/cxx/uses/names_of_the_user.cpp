// An initializer names the user's own variables, whatever they are called.
#include <percpu/percpu.hpp>

static int at, area, place, storage, value;

struct Pointers {
    explicit Pointers(int* first, int* second) : first_(first), second_(second) {}
    int* first_;
    int* second_;
};
PERCPU_DEFINE(int*, pointer_to_at, &at);
PERCPU_DEFINE(int*, pointer_to_area, &area);
PERCPU_DEFINE(int*[3], pointers, &place, &storage, &value);
PERCPU_DEFINE_STATIC(int*, own_pointer, &at);
PERCPU_DEFINE_CONSTRUCTED(Pointers, both, &at, &area);

int* use() { return own_pointer.read_current(); }
