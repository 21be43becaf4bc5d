// A reload that runs out of memory, at each of its allocations in turn: everything stays as it was,
// or everything is new. Real shards serve; their sockets are on loopback.
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "contract/allocations.hpp"
#include "contract/rig.hpp"
#include "udpproxy/runtime/reconfigurer.hpp"

namespace udpproxy::contract {
namespace {

/// A file that goes with it.
struct ConfigFile {
    std::string path = "/tmp/udpproxy_reload_test." + std::to_string(::getpid());

    ConfigFile() = default;
    ConfigFile(const ConfigFile&) = delete;
    ConfigFile& operator=(const ConfigFile&) = delete;
    ~ConfigFile() { (void)std::remove(path.c_str()); }
    void write(const std::string& text) const { std::ofstream(path) << text; }
};

const std::string head =
    "[runtime]\nengine = \"epoll\"\nshards = 2\n[log]\nfile = \"/dev/null\"\n[admin]\nsocket = "
    "\"\"\n";

std::string proxy_text(const std::string& name, const Endpoint& listen, const std::string& more) {
    return "[[proxy]]\nname = \"" + name + "\"\nlisten = \"" + format(listen) + "\"\n" + more;
}

/// What a reload changes, as text.
std::string text_of(const Reconfigurer& reconfigurer, const Names& names, const SharedUse& use) {
    std::string text = std::to_string(reconfigurer.reloads()) + " reloads, " +
                       std::to_string(names.questions().size()) + " questions, " +
                       std::to_string(reconfigurer.config().proxies.size()) + " configured\n";
    for (std::size_t i = 0; i < 4; ++i) {
        const ProxySlot& slot = reconfigurer.proxies()[i];
        text += slot.config.name + " state " + std::to_string(static_cast<int>(slot.state)) +
                " version " + std::to_string(slot.versions) + " sessions " +
                std::to_string(slot.settings.sessions_max) + " aliases " +
                std::to_string(slot.upstream ? slot.upstream->aliases().size() : 0) + " numbers " +
                std::to_string(slot.alias_counters.size()) + " shown " +
                std::to_string(slot.shown.aliases.size()) + " held " +
                std::to_string(use.proxies_held[i].load()) + "\n";
        for (const BindingLocation& binding : slot.bindings)
            text += "  ports " + std::to_string(binding.ports.ports()) + "\n";
    }
    for (const ListenerSlot& slot : reconfigurer.listeners())
        if (slot.state != SlotState::vacant)
            text += format(slot.endpoint) + " state " +
                    std::to_string(static_cast<int>(slot.state)) + " proxy " +
                    std::to_string(slot.proxy) + "\n";
    for (std::size_t i = 0; i < 8; ++i)
        text += std::to_string(use.bindings_held[i].load()) + "/" +
                std::to_string(use.listeners_held[i].load()) + " ";
    return text;
}

TEST_CASE("a reload without memory for one thing changes nothing, whichever it is") {
    if (!counts_allocations()) {
        skip("allocations are not counted under sanitisers");
        return;
    }
    const ConfigFile file;
    const Endpoint first = unused_endpoint(loopback(Family::ipv4));
    const Endpoint second = unused_endpoint(loopback(Family::ipv4));
    const std::string old_text =
        head +
        proxy_text("stays", first,
                   "upstream = \"127.0.0.9:53\"\nsessions_max = 10\nports = \"20000-20999\"\n");
    const std::string new_text =
        head + "[limits]\nsessions_max = 900\n" +
        proxy_text("stays", first,
                   "upstream = \"127.0.0.9:54\"\nsessions_max = 20\nports = \"20000-21999\"\n"
                   "reply_aliases = [\"127.0.0.10:54\", \"127.0.0.11:54\"]\n") +
        proxy_text("comes", second, "upstream = \"127.0.0.9:55\"\nsessions_max = 30\n");
    file.write(old_text);
    std::variant<Config, ConfigComplaints> read = read_config(file.path);
    REQUIRE(std::holds_alternative<Config>(read));
    const Config& config = std::get<Config>(read);
    Log log = *Log::open(LogLevel::info, LogFormat::text, "/dev/null");
    Names names(log);
    Bootstrap bootstrap(config, log);
    REQUIRE(bootstrap.prepare_proxies(names, [](Duration) { return false; }));
    REQUIRE(bootstrap.compute_capacity().empty());
    REQUIRE(bootstrap.choose_engine());
    REQUIRE(bootstrap.open_all_listeners());
    REQUIRE(bootstrap.start_shards());
    StatusBoard board;
    Reconfigurer reconfigurer(config, file.path, std::chrono::seconds{1}, bootstrap, names, board,
                              log);
    const auto state = [&] { return text_of(reconfigurer, names, *bootstrap.use()); };
    const auto reload = [&](const std::string& text) {
        file.write(text);
        return reconfigurer.reload(monotonic_now()).done;
    };
    // Back to the old configuration, until the new listener and the new proxy are gone.
    const auto go_back = [&] {
        REQUIRE(reload(old_text));
        const Instant deadline = monotonic_now() + patience;
        while (reconfigurer.proxies()[1].state != SlotState::vacant && monotonic_now() < deadline) {
            sleep_for(std::chrono::microseconds{200});
            reconfigurer.look(monotonic_now());
        }
        REQUIRE(reconfigurer.proxies()[1].state == SlotState::vacant);
    };

    std::size_t refused = 0;
    std::size_t done = 0;
    for (std::size_t failing = 1;; ++failing) {
        const std::string before = state();
        const std::size_t descriptors = descriptor_count();
        file.write(new_text);
        bool is_done = false;
        bool has_failed = false;
        {
            const FailingAllocation failure(failing);
            is_done = reconfigurer.reload(monotonic_now()).done;
            has_failed = failure.has_failed();
        }
        CAPTURE(failing);
        if (!is_done) {
            ++refused;
            REQUIRE(state() == before);
            REQUIRE(descriptor_count() == descriptors);
            continue;
        }
        ++done;
        REQUIRE(reconfigurer.proxies()[0].settings.sessions_max == 20);
        REQUIRE(reconfigurer.proxies()[0].upstream->aliases().size() == 2);
        REQUIRE(reconfigurer.proxies()[0].shown.aliases.size() == 2);
        REQUIRE(reconfigurer.proxies()[1].state == SlotState::serving);
        REQUIRE(reconfigurer.proxies()[1].settings.sessions_max == 30);
        REQUIRE(reconfigurer.listeners()[1].endpoint == second);
        REQUIRE(board.get()->proxies.size() == 2);
        REQUIRE(board.get()->reloads == reconfigurer.reloads());
        if (!has_failed) break;  // there are no more allocations than that
        go_back();
    }
    CHECK(refused > 100);
    MESSAGE("refused " << refused << ", done " << done);
    reconfigurer.withdraw_queues();
    for (const auto& shard : bootstrap.shards()) shard->stop();
    for (const auto& shard : bootstrap.shards()) shard->join();
}

}  // namespace
}  // namespace udpproxy::contract
