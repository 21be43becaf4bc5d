// The fuzz targets. Each takes any bytes, drives one part of the program with them, and asserts the
// laws of that part: UDPPROXY_ASSERT ends the process. libfuzzer.cpp hands the inputs of libFuzzer
// to one of them; tests/unit/fuzz_corpus_test.cpp replays fuzz/corpus/NAME in every build.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace udpproxy::fuzz {

using Bytes = std::span<const std::uint8_t>;

void config(Bytes input);         // TOML
void caddyfile(Bytes input);      // its conversion to TOML
void addresses(Bytes input);      // endpoints, prefixes and the configuration's other values
void control(Bytes input);        // control messages, in both directions
void trains(Bytes input);         // splitting and coalescing
void netlink(Bytes input);        // answers of rtnetlink
void packet_filter(Bytes input);  // nft's JSON
void procfs(Bytes input);         // files of /proc
void admin(Bytes input);          // HTTP requests
void ledger(Bytes input);         // a ledger that another process has left
void pcapng(Bytes input);         // capture files
void reload(Bytes input);         // two configurations and more, carried out on a shard

struct Target {
    std::string_view name;  // of its corpus, too
    void (*run)(Bytes input);
};

inline constexpr auto targets = std::to_array<Target>({
    {"config", config},
    {"caddyfile", caddyfile},
    {"addresses", addresses},
    {"control", control},
    {"trains", trains},
    {"netlink", netlink},
    {"packet_filter", packet_filter},
    {"procfs", procfs},
    {"admin", admin},
    {"ledger", ledger},
    {"pcapng", pcapng},
    {"reload", reload},
});

}  // namespace udpproxy::fuzz
