// A crowd of clients: sends the next datagrams of its clients in turn, and takes and checks the
// replies. Two kinds: frames (any number of clients, single datagrams) and sockets (a few clients,
// datagrams or trains). How fast to send is the caller's affair (pace.hpp).
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "traffic/frame.hpp"
#include "traffic/ownership.hpp"
#include "traffic/tally.hpp"
#include "udpproxy/net/endpoint.hpp"

namespace udpproxy::traffic {

struct CrowdPlan {
    std::uint32_t clients = 1;  // the next client after the last is the first again
    std::uint32_t run = 1;      // consecutive datagrams of one client
    bool churn = false;  // each run of datagrams comes from a client that was never seen before
    std::size_t payload_bytes = 64;  // of a datagram
    std::uint32_t train_segments = 1;
    bool replies = false;
    Endpoint target;         // IPv4
    std::string interface;   // frames only
    std::string target_mac;  // frames only
    std::uint32_t first_address =
        0;  // frames only: client n has first_address + n, host byte order
};

class Crowd {
public:
    Crowd(const CrowdPlan& plan, Tally& tally);
    Crowd(const Crowd&) = delete;
    Crowd& operator=(const Crowd&) = delete;
    virtual ~Crowd() = default;

    // Sends `datagrams` of them (whole trains, so perhaps more); gives up what the kernel refuses.
    virtual void send(std::size_t datagrams) = 0;
    // Takes all replies that are there, at most some hundreds; never waits.
    virtual void take_replies() = 0;

protected:
    // The client whose turn it is, and its next sequence number.
    struct Turn {
        std::uint32_t client;
        std::uint32_t sequence;
    };
    Turn next_turn();

    CrowdPlan plan_;
    Tally& tally_;
    Ownership ownership_;

private:
    std::uint64_t turns_ = 0;
    std::vector<std::uint32_t> sequences_;
};

std::unique_ptr<Crowd> crowd_of_frames(const CrowdPlan& plan, Tally& tally);
std::unique_ptr<Crowd> crowd_of_sockets(const CrowdPlan& plan, Tally& tally);

}  // namespace udpproxy::traffic
