// RuntimeRig: a Reconfigurer over two real shards whose sockets are on loopback. The test is the
// control thread: it reloads, looks and reads the log.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>

#include "contract/allocations.hpp"
#include "contract/rig.hpp"
#include "udpproxy/runtime/reconfigurer.hpp"

namespace udpproxy::contract {

/// A file of this process that is removed again.
struct TemporaryFile {
    std::string path;

    explicit TemporaryFile(const std::string& name)
        : path("/tmp/udpproxy_contract." + std::to_string(::getpid()) + "." + name) {
        (void)std::remove(path.c_str());
    }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    ~TemporaryFile() { (void)std::remove(path.c_str()); }
    void write(const std::string& text) const { std::ofstream(path) << text; }
    [[nodiscard]] std::string text() const {
        std::ifstream file(path);
        return {std::istreambuf_iterator<char>(file), {}};
    }
};

/// The sections of a configuration that come before its proxies.
[[nodiscard]] inline std::string head_text(const std::string& engine = "epoll") {
    return "[runtime]\nengine = \"" + engine +
           "\"\nshards = 2\n[log]\nsessions = true\n[admin]\nsocket = \"\"\n";
}

[[nodiscard]] inline std::string proxy_text(const std::string& name, const Endpoint& listen,
                                            const std::string& more) {
    return "[[proxy]]\nname = \"" + name + "\"\nlisten = \"" + format(listen) + "\"\n" + more;
}

class RuntimeRig {
public:
    /// Called between the steps of the start's wait for names.
    using Pause = std::function<void(const Names&)>;

    explicit RuntimeRig(
        const std::string& config_text, Duration drain_timeout = std::chrono::seconds{1},
        LookupSettings lookups = {}, const Pause& pause = [](const Names&) {})
        : config_(read(config_text)),
          log(*Log::open({LogLevel::info, LogFormat::text, log_file.path})),
          names(log, std::move(lookups)),
          bootstrap(config_, log),
          reconfigurer(start(drain_timeout, pause)) {}
    RuntimeRig(const RuntimeRig&) = delete;
    RuntimeRig& operator=(const RuntimeRig&) = delete;
    ~RuntimeRig() { stop(); }

    /// Ends the shards, whose state the test may read afterwards.
    void stop() {
        reconfigurer.withdraw_queues();
        for (const auto& shard : bootstrap.shards()) shard->stop();
        for (const auto& shard : bootstrap.shards()) {
            while (!shard->has_ended()) {
                shard->post_waiting();
                sleep_for(std::chrono::microseconds{200});
            }
            shard->join();
        }
    }
    void write(const std::string& config_text) { config_file.write(config_text); }
    bool reload() { return reconfigurer.reload(monotonic_now()).done; }
    bool reload(const std::string& config_text) {
        write(config_text);
        return reload();
    }
    void look() { reconfigurer.look(monotonic_now()); }
    [[nodiscard]] std::string log_text() {
        log.flush(patience);
        return log_file.text();
    }
    /// False: the time is over.
    template <class Enough>
    [[nodiscard]] bool look_until(Enough enough) {
        const Instant deadline = monotonic_now() + patience;
        while (!enough()) {
            if (monotonic_now() >= deadline) return false;
            sleep_for(std::chrono::microseconds{200});
            look();
        }
        return true;
    }
    [[nodiscard]] SlotState state_of(std::size_t proxy) const {
        return reconfigurer.proxies()[proxy].state;
    }

    TemporaryFile config_file{"toml"};
    TemporaryFile log_file{"log"};

private:
    Config read(const std::string& text) {
        config_file.write(text);
        std::variant<Config, ConfigComplaints> outcome = read_config(config_file.path);
        REQUIRE(std::holds_alternative<Config>(outcome));
        return std::move(std::get<Config>(outcome));
    }
    Reconfigurer start(Duration drain_timeout, const Pause& pause) {
        REQUIRE(bootstrap.prepare_proxies(names, [&](Duration) {
            pause(names);
            return false;
        }));
        REQUIRE(bootstrap.compute_capacity().empty());
        REQUIRE(bootstrap.choose_engine());
        REQUIRE(bootstrap.begin());
        return Reconfigurer(config_, config_file.path, drain_timeout, bootstrap, names, board, log);
    }

    Config config_;

public:
    Log log;
    Names names;
    Bootstrap bootstrap;
    StatusBoard board;
    Reconfigurer reconfigurer;
};

}  // namespace udpproxy::contract
