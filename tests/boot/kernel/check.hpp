// What a kernel claims about itself, counted, so that its exit says whether all of it held.
#pragma once

// Prints `what` if it does not hold. Any CPU may call it.
void check(bool holds, const char* what);

// Prints the result of all checks so far and ends the machine.
[[noreturn]] void exit_with_checks();
