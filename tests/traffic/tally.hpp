// The tally: what a program of the benchmark has counted so far, in a file that the runner maps and
// reads while the program works, so that reading it at both ends of a measurement disturbs nobody.
// The runner knows the order of the fields (bench/runner/tally.py).
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace udpproxy::traffic {

// One writer; a count is seen whole by the reader, several are not a snapshot.
class Count {
public:
    void add(std::uint64_t more) { value_.store(get() + more, std::memory_order_relaxed); }
    std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

private:
    std::atomic<std::uint64_t> value_{0};
};

struct Tally {
    Count sent;        // datagrams, the segments of trains each
    Count unsent;      // datagrams that the kernel refused to send
    Count received;    // datagrams
    Count foreign;     // datagrams that belong to another client
    Count damaged;     // datagrams whose stamp does not fit
    Count disordered;  // datagrams that came behind a later one of the same client, or twice
    Count checked;     // datagrams whose owner was checked
    Count idle_ns;     // nanoseconds that the CPU had nothing to do (soak.cpp)
};

// The tally in the file, created with zeros. An empty path: memory that nobody reads. Throws
// std::runtime_error with the path and the cause.
Tally& mapped_tally(const std::string& path);

}  // namespace udpproxy::traffic
