// A trace as a capture file in pcapng (draft-ietf-opsawg-pcapng), readable by Wireshark, tshark and
// capinfos. It has two interfaces of raw IP, one for the clients' side and one for the upstream's.
// The IP and UDP headers are made up here from the addresses, the TOS and the full length.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "udpproxy/base/result.hpp"
#include "udpproxy/net/endpoint.hpp"

namespace udpproxy::ctl {

enum class Side : std::uint32_t { client = 0, upstream = 1 };

struct CapturedDatagram {
    Side side = Side::client;
    std::uint64_t at_ns = 0;  // Unix time
    Endpoint from;
    Endpoint to;  // of the same family
    std::uint8_t tos = 0;
    std::uint32_t bytes = 0;         // length of the whole payload
    std::vector<std::uint8_t> kept;  // the beginning of the payload
    std::string comment;             // empty: none
};

class PcapngFile {
public:
    /// Errors: `x.pcapng: open: Permission denied`.
    [[nodiscard]] static Result<PcapngFile> create(const std::string& path);
    void write(const CapturedDatagram& datagram);
    /// Errors: `x.pcapng: write: No space left on device`.
    [[nodiscard]] Result<void> close();

private:
    PcapngFile(std::string path, std::ofstream file)
        : path_(std::move(path)), file_(std::move(file)) {}
    std::string path_;
    std::ofstream file_;
};

/// The datagram as a raw IP packet that ends with the kept bytes. The UDP checksum is present only
/// if the whole payload was kept.
[[nodiscard]] std::vector<std::uint8_t> as_packet(const CapturedDatagram& datagram);

}  // namespace udpproxy::ctl
