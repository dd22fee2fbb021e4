// A constructed variable is never destroyed, so its type need not let anybody do that.
#include <percpu/percpu.hpp>

struct Deleted {
    explicit Deleted(int initial) : value(initial) {}
    ~Deleted() = delete;
    int value;
};
class Private {
public:
    explicit Private(int initial) : value(initial) {}
    int value;

private:
    ~Private() {}
};
class TriviallyPrivate {
public:
    explicit TriviallyPrivate(int initial) : value(initial) {}
    int value;

private:
    ~TriviallyPrivate() = default;
};
PERCPU_DECLARE(Deleted, deleted);
PERCPU_DEFINE_CONSTRUCTED(Deleted, deleted, 1);
PERCPU_DEFINE_CONSTRUCTED(Private, hidden, 2);
PERCPU_DEFINE_CONSTRUCTED(TriviallyPrivate, trivially_hidden, 3);

int sum() { return deleted.current_ref()->value + hidden.current_ref()->value + trivially_hidden.current_ref()->value; }
