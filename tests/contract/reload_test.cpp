// A reload that runs out of memory, at each of its allocations in turn: everything stays as it was,
// or everything is new. Real shards serve; their sockets are on loopback.
#include "contract/runtime_rig.hpp"

namespace udpproxy::contract {
namespace {

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
    const Endpoint first = unused_endpoint(loopback(Family::ipv4));
    const Endpoint second = unused_endpoint(loopback(Family::ipv4));
    const std::string old_text =
        head_text() +
        proxy_text("stays", first,
                   "upstream = \"127.0.0.9:53\"\nsessions_max = 10\nports = \"20000-20999\"\n");
    const std::string new_text =
        head_text() + "[limits]\nsessions_max = 900\n" +
        proxy_text("stays", first,
                   "upstream = \"127.0.0.9:54\"\nsessions_max = 20\nports = \"20000-21999\"\n"
                   "reply_aliases = [\"127.0.0.10:54\", \"127.0.0.11:54\"]\n") +
        proxy_text("comes", second, "upstream = \"127.0.0.9:55\"\nsessions_max = 30\n");
    RuntimeRig rig(old_text);
    const Reconfigurer& reconfigurer = rig.reconfigurer;
    const auto state = [&] { return text_of(reconfigurer, rig.names, *rig.bootstrap.use()); };

    std::size_t refused = 0;
    std::size_t done = 0;
    let_each_allocation_fail([&](std::size_t failing) {
        const std::string before = state();
        const std::size_t descriptors = descriptor_count();
        rig.write(new_text);
        bool is_done = false;
        bool has_failed = false;
        {
            const FailingAllocation failure(failing);
            is_done = rig.reload();
            has_failed = failure.has_failed();
        }
        if (!is_done) {
            ++refused;
            REQUIRE(state() == before);
            REQUIRE(descriptor_count() == descriptors);
            return has_failed;
        }
        ++done;
        REQUIRE(reconfigurer.proxies()[0].settings.sessions_max == 20);
        REQUIRE(reconfigurer.proxies()[0].upstream->aliases().size() == 2);
        REQUIRE(reconfigurer.proxies()[0].shown.aliases.size() == 2);
        REQUIRE(rig.state_of(1) == SlotState::serving);
        REQUIRE(reconfigurer.proxies()[1].settings.sessions_max == 30);
        REQUIRE(reconfigurer.listeners()[1].endpoint == second);
        REQUIRE(rig.board.get()->proxies.size() == 2);
        REQUIRE(rig.board.get()->reloads == reconfigurer.reloads());
        // Back to the old configuration, until the new listener and the new proxy are gone.
        REQUIRE(rig.reload(old_text));
        REQUIRE(rig.look_until([&] { return rig.state_of(1) == SlotState::vacant; }));
        return has_failed;
    });
    if (counts_allocations()) CHECK(refused > 100);
    MESSAGE("refused " << refused << ", done " << done);
}

// The new proxy's settings are made of the whole section: with another key changed, those that need
// a restart would take effect as well.
TEST_CASE("a key that needs a restart stays as it was though other keys change with it") {
    const Endpoint listen = unused_endpoint(loopback(Family::ipv4));
    const std::string proxy = "upstream = \"127.0.0.9:53\"\nsessions_max = 10\n";
    RuntimeRig rig(head_text() + proxy_text("one", listen, proxy));
    const ProxySlot before = rig.reconfigurer.proxies()[0];
    REQUIRE(rig.reload(
        "[runtime]\nengine = \"epoll\"\nshards = 1\n[admin]\nsocket = \"\"\n" +
        proxy_text("one", listen, proxy + "idle_timeout = \"7m\"\nreceive_buffer = \"64KiB\"\n")));
    const ProxySlot& after = rig.reconfigurer.proxies()[0];
    CHECK(after.settings.idle_timeout == std::chrono::minutes{7});
    CHECK(after.settings.member_receive_buffer_bytes ==
          before.settings.member_receive_buffer_bytes);
    CHECK(after.config.receive_buffer_bytes == before.config.receive_buffer_bytes);
    CHECK(rig.reconfigurer.config().shards == 2);
    CHECK(rig.board.get()->config->shards == 2);
    rig.stop();
    for (const auto& shard : rig.bootstrap.shards())
        CHECK(shard->shard().proxies[0].setup.member_receive_buffer_bytes ==
              before.settings.member_receive_buffer_bytes);
}

}  // namespace
}  // namespace udpproxy::contract
