// A capture file of what a trace has kept, in pcapng (draft-ietf-opsawg-pcapng): two interfaces of
// raw IP, the clients' side and the upstream's, so that Wireshark, tshark and capinfos read it. IP
// and UDP headers are made here; they carry the addresses, the TOS and the true length.
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
    std::uint32_t bytes = 0;         // of the payload as it was
    std::vector<std::uint8_t> kept;  // its beginning
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

/// The datagram as a raw IP packet, cut where the payload was; checksums are right for a whole one.
[[nodiscard]] std::vector<std::uint8_t> as_packet(const CapturedDatagram& datagram);

}  // namespace udpproxy::ctl
