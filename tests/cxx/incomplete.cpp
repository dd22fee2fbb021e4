// A header may declare a variable of a type that it only names, as with Linux's DECLARE_PER_CPU.
#include <percpu/percpu.hpp>

struct Task;
struct Owner;
template <class T>
struct Queue;
PERCPU_DECLARE(Task, idle_task);
PERCPU_DECLARE_NEAR(Task*, current_task);
PERCPU_DECLARE(Owner, owner);
PERCPU_DECLARE(Queue<int>, queue);

// Nobody may take its address by an operator of its own.
struct Task {
    int priority;
    Task* operator&() = delete;
};
struct Owner {
    explicit Owner(int what) : owned(what) {}
    ~Owner();
    int owned;
};

PERCPU_DEFINE(Task, idle_task, .priority = 3);
PERCPU_DEFINE_NEAR(Task*, current_task, nullptr);
PERCPU_DEFINE_CONSTRUCTED(Owner, owner, 3);

int priorities() { return idle_task.current_ref()->priority + idle_task.remote_ref(1)->priority + owner.current_ref()->owned; }
