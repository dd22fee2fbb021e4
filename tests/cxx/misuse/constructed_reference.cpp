// expect first: is an object of a complete type: no reference, void, function, or array without a size
#include <percpu/percpu.hpp>

int number;
PERCPU_DEFINE_CONSTRUCTED(int&, x, number);
