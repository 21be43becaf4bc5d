// Calls with a limit: what is not answered is given up, bounded, and closed when it comes later.
#include "udpproxy/base/time_limit.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>

#include "udpproxy/base/descriptor.hpp"

namespace udpproxy {
namespace {

using std::chrono_literals::operator""ms;

/// Keeps calls waiting until it is opened.
class Gate {
public:
    void open() { opened_.set_value(); }
    void wait() const { future_.wait(); }

private:
    std::promise<void> opened_;
    std::shared_future<void> future_ = opened_.get_future().share();
};

void wait_until_none_goes_on() {
    while (calls_given_up > 0) sleep_for(1ms);
}

}  // namespace

TEST_CASE("a call within its limit returns what it returns") {
    CHECK(within(std::chrono::minutes{1}, [] { return Result<int>{7}; }).value() == 7);
    const Result<int> failed = within(std::chrono::minutes{1}, [] {
        return Result<int>{Error{"no", EPERM}};
    });
    REQUIRE_FALSE(failed);
    CHECK(failed.error().code == EPERM);
}

TEST_CASE("calls that are given up are bounded, and make room when they are through") {
    const auto gate = std::make_shared<Gate>();
    const auto waiting = [gate] {
        gate->wait();
        return Result<int>{1};
    };
    for (int i = 0; i < calls_given_up_max; ++i)
        CHECK(within(1ms, waiting).error().code == ETIMEDOUT);
    CHECK(calls_given_up == calls_given_up_max);
    const Result<int> refused = within(1ms, [] { return Result<int>{1}; });
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == EAGAIN);
    CHECK(refused.error().message == "8 earlier calls are not answered yet");
    gate->open();
    wait_until_none_goes_on();
    CHECK(within(std::chrono::minutes{1}, [] { return Result<int>{1}; }));
}

TEST_CASE("a descriptor that comes after the limit is closed") {
    const auto gate = std::make_shared<Gate>();
    const auto number = std::make_shared<std::atomic<int>>(-1);
    const Result<Descriptor> late = within(1ms, [gate, number]() -> Result<Descriptor> {
        gate->wait();
        Descriptor opened{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
        *number = opened.descriptor();
        return opened;
    });
    REQUIRE_FALSE(late);
    gate->open();
    wait_until_none_goes_on();
    REQUIRE(*number >= 0);
    while (::fcntl(*number, F_GETFD) != -1) sleep_for(1ms);
    CHECK(errno == EBADF);
}

}  // namespace udpproxy
