// The subcommands of the load tool, each with what the command line says. main() fills these in;
// each function runs to its end and says what was.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace udpproxy::traffic {

/// A multi-homed service.
struct ServeOptions {
    std::vector<std::string> at;           // endpoints
    std::string answer_from = "asked";     // asked, turn, random, or the index of an endpoint
    std::uint32_t replies = 1;             // to each request; 0 is silence
    std::uint32_t reply_bytes_factor = 1;  // a reply is so many times as long as its request
    bool only_marked = false;              // no answer to what bears no mark
    // Faults, to see that those who ask notice: every so many requests, 0 for never.
    std::uint64_t misdeliver_every = 0;  // its replies go to whoever asked before
    std::uint64_t corrupt_every = 0;     // its replies have a wrong byte
    std::uint64_t repeat_every = 0;      // its replies are sent twice
    double seconds = 3600;
};
void serve(const ServeOptions& options);

/// Clients that stay.
struct AskOptions {
    std::vector<std::string> from;  // addresses
    std::vector<std::string> to;    // endpoints, clients take them in turn
    std::uint32_t clients = 1;
    double rate = 1000;  // questions a second of all clients together; 0: as the window allows
    std::uint32_t window = 0;  // questions of one client that may be open; 0: any
    std::uint64_t count = 0;   // questions at most; 0: any
    double seconds = 1;
    std::vector<std::uint32_t> bytes{200};  // taken in turn
    std::uint32_t replies = 1;              // wanted for each question
    std::uint32_t empties = 0;              // empty datagrams sent before each question
    double patience = 5;                    // seconds to wait for the last replies
    bool warm = false;  // first two rounds that make every client assured, not counted
};
void ask(const AskOptions& options);

/// Clients that ask once: each question comes from a new port.
struct ChurnOptions {
    std::vector<std::string> from;
    std::string to;
    double rate = 300;
    double seconds = 1;
    std::uint32_t bytes = 60;
    double patience = 5;  // seconds until a question is lost
    double linger = 0.2;  // seconds that an answered client still listens
    std::uint16_t first_port = 10000;
};
void churn(const ChurnOptions& options);

/// A flood with forged sources.
struct SpoofOptions {
    std::string to;
    std::string prefix;  // of the sources
    std::uint16_t first_port = 1024, last_port = 65535;
    double rate = 100000;
    double seconds = 1;
    std::uint64_t count = 0;  // at most; 0: any
    std::uint32_t bytes = 64;
    std::uint64_t seed = 1;
};
void spoof(const SpoofOptions& options);

/// Forged ICMP errors about the flow FROM -> TO.
struct IcmpOptions {
    std::string about_from;  // endpoint: who is told that its datagram came to grief
    std::string about_to;    // endpoint
    std::uint16_t from_ports = 1, to_ports = 1;  // so many ports in a row
    std::string teller;  // address that the message claims to come from; empty: that of about_to
    double rate = 10000;
    double seconds = 1;
    std::uint64_t count = 0;
    std::uint64_t seed = 1;
};
void icmp(const IcmpOptions& options);

}  // namespace udpproxy::traffic
