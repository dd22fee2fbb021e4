// What a kernel that switches threads asks of a board besides board.hpp.
#pragma once

extern "C" {

// Leaves this stack, noting in *from where, and goes on where the stack `to` was left. Keeps the registers
// that a call keeps, and none that belongs to the CPU.
void switch_stack(void** from, void* to);

// A stack that ends at `top`, as if it had been left where entry() begins.
void* new_stack(void* top, void (*entry)());
}
