// expect: add_current is for pointers to objects
#include <percpu/percpu.hpp>
PERCPU_DEFINE(void*, cursor, nullptr);
void next() { cursor.add_current(1); }
