// A shard's thread that cannot be started, and one that is stopped short of memory.
#include <pthread.h>

#include "contract/runtime_rig.hpp"

namespace udpproxy::contract {
namespace {

/// While it lives, no thread can be started: its stack would be larger than the address space.
class NoThreads {
public:
    NoThreads() {
        REQUIRE(::pthread_getattr_default_np(&usual_) == 0);
        pthread_attr_t attributes;
        REQUIRE(::pthread_getattr_default_np(&attributes) == 0);
        REQUIRE(::pthread_attr_setstacksize(&attributes, std::size_t{1} << 47) == 0);
        REQUIRE(::pthread_setattr_default_np(&attributes) == 0);
        ::pthread_attr_destroy(&attributes);
    }
    NoThreads(const NoThreads&) = delete;
    NoThreads& operator=(const NoThreads&) = delete;
    ~NoThreads() {
        ::pthread_setattr_default_np(&usual_);
        ::pthread_attr_destroy(&usual_);
    }

private:
    pthread_attr_t usual_{};
};

std::string one_proxy_text(const std::string& engine) {
    return head_text(engine) + proxy_text("one", unused_endpoint(loopback(Family::ipv4)),
                                          "upstream = \"127.0.0.9:53\"\nsessions_max = 10\n");
}

// The exception went up to main(), and the program ended without a line in its log.
TEST_CASE_TEMPLATE("a start without a thread for a shard fails with the reason", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    const TemporaryFile file("toml");
    file.write(one_proxy_text(std::is_same_v<Engine, UringBackend> ? "io_uring" : "epoll"));
    const std::variant<Config, ConfigComplaints> outcome = read_config(file.path);
    REQUIRE(std::holds_alternative<Config>(outcome));
    Log log = *Log::open({LogLevel::info, LogFormat::text, "/dev/null"});
    Names names(log);
    Bootstrap bootstrap(std::get<Config>(outcome), log);
    REQUIRE(bootstrap.prepare_proxies(names, [](Duration) { return false; }));
    REQUIRE(bootstrap.compute_capacity().empty());
    REQUIRE(bootstrap.choose_engine());
    const NoThreads none;
    const Result<void> started = bootstrap.begin();
    REQUIRE_FALSE(started);
    CHECK(started.error().message.find("shard 0: thread: ") == 0);
    // Nobody waits for threads that never ran.
    REQUIRE(bootstrap.shards().size() == 2);
    for (const auto& shard : bootstrap.shards()) CHECK(shard->has_ended());
}

TEST_CASE("a shard is stopped without taking memory") {
    RuntimeRig rig(one_proxy_text("epoll"));
    {
        const FailingAllocation failure(1);
        for (const auto& shard : rig.bootstrap.shards()) shard->stop();
        CHECK_FALSE(failure.has_failed());
    }
    rig.stop();
}

}  // namespace
}  // namespace udpproxy::contract
