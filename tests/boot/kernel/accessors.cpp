// Every accessor on every kind and size of scalar, in the kernel: the same program that the host runs
// (tests/cxx/host/accessors.cpp), with this kernel's checks.
#include "check.hpp"

#define CHECK(claim) check((claim), #claim)
// Kernels leave the floating-point registers to user space.
#define WITHOUT_FLOATING_POINT
#define main check_accessors
#include "../../cxx/host/accessors.cpp"
#undef main

extern "C" void on_tick() {}
extern "C" void secondary_main(size_t) {}

extern "C" void primary_main() {
    check_accessors();
    exit_with_checks();
}
