// expect first: is an object of a complete type: no reference, void, function, or array without a size
#include <percpu/percpu.hpp>

struct Task;
PERCPU_DEFINE(Task, x);
