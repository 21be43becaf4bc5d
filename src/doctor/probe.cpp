// Sends one payload to the upstream from an unconnected socket, which receives replies from every
// source, and compares the sources with reply_aliases.
#include <fmt/format.h>
#include <linux/errqueue.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <random>

#include "udpproxy/doctor/doctor.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy {

namespace {

constexpr Duration linger =
    std::chrono::milliseconds{500};  // after the first answer, for answers of other sources
constexpr std::size_t answers_max = 256;
constexpr int bind_attempts = 64;

/// Binds as the sockets of a session are bound: to the source of requests, and to one of the
/// proxy's ports if it has a range.
Result<Socket> open_probe(const ProxyConfig& config, const Endpoint& upstream) {
    const SourceAnswer source = source_towards(
        upstream, config.source.empty() ? Address::any(upstream.family()) : config.source.front());
    if (source.error != 0)
        return Error{fmt::format("source address towards {}: {}", format(upstream),
                                 error_text(source.error)),
                     source.error};
    Socket socket{::socket(upstream.address.is_ipv4() ? AF_INET : AF_INET6,
                           SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (!socket) return system_error("socket", errno);
    // An unconnected socket learns of ICMP errors only through its error queue.
    const int on = 1;
    const bool ipv4 = upstream.address.is_ipv4();
    if (::setsockopt(socket.descriptor(), ipv4 ? IPPROTO_IP : IPPROTO_IPV6,
                     ipv4 ? IP_RECVERR : IPV6_RECVERR, &on, sizeof on) != 0)
        return system_error("setsockopt IP_RECVERR", errno);
    std::random_device random;
    int error = 0;
    for (int attempt = 0; attempt < bind_attempts; ++attempt) {
        Endpoint local = source.source;
        if (config.ports)
            local.port = std::uniform_int_distribution<std::uint16_t>{config.ports->first,
                                                                      config.ports->last}(random);
        SocketName name{};
        const socklen_t length = write_socket_name(local, name);
        if (::bind(socket.descriptor(), &name.any, length) == 0) return socket;
        error = errno;
        if (error != EADDRINUSE) break;
    }
    return system_error("bind", error);
}

void take_answers(int descriptor, ProbeOutcome& outcome) {
    std::array<std::uint8_t, 65536> buffer{};
    while (outcome.answers.size() < answers_max) {
        SocketName name{};
        socklen_t length = sizeof name;
        const ssize_t bytes =
            ::recvfrom(descriptor, buffer.data(), buffer.size(), 0, &name.any, &length);
        if (bytes < 0) return;  // the queue is empty, or the error queue has the details
        outcome.answers.push_back({read_socket_name(name), static_cast<std::uint64_t>(bytes)});
    }
}

void take_errors(int descriptor, ProbeOutcome& outcome) {
    for (int turn = 0; turn < 16; ++turn) {
        alignas(cmsghdr) std::array<std::uint8_t, 512> control{};
        msghdr message{};
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        if (::recvmsg(descriptor, &message, MSG_ERRQUEUE) < 0) return;
        for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
             header = CMSG_NXTHDR(&message, header)) {
            const bool is_error =
                (header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_RECVERR) ||
                (header->cmsg_level == IPPROTO_IPV6 && header->cmsg_type == IPV6_RECVERR);
            if (!is_error) continue;
            sock_extended_err error{};
            std::memcpy(&error, CMSG_DATA(header), sizeof error);
            outcome.icmp_error = static_cast<int>(error.ee_errno);
            SocketName offender{};
            std::memcpy(&offender, CMSG_DATA(header) + sizeof error,
                        std::min(sizeof offender, header->cmsg_len - CMSG_LEN(0) - sizeof error));
            outcome.icmp_from = read_socket_name(offender);
        }
    }
}

bool lists(const Alias& alias, const Endpoint& from) {
    return alias.prefix.contains(from.address) && (!alias.port || *alias.port == from.port);
}

/// The reply_aliases line with these sources added.
std::string line_with(const ProxyConfig& config, const std::vector<std::string>& added) {
    std::string line = "reply_aliases = [";
    for (const Alias& alias : config.reply_aliases) line += '"' + alias.text + "\", ";
    for (std::size_t i = 0; i < added.size(); ++i)
        line += (i == 0 ? "\"" : ", \"") + added[i] + '"';
    return line + ']';
}

}  // namespace

Result<ProbeOutcome> probe(const ProxyConfig& config, const Endpoint& upstream,
                           const std::vector<std::uint8_t>& payload, Duration time_limit) {
    Result<Socket> opened = open_probe(config, upstream);
    if (!opened) return opened.error();
    const int descriptor = opened->descriptor();
    ProbeOutcome outcome;
    SocketName name{};
    socklen_t length = sizeof name;
    if (::getsockname(descriptor, &name.any, &length) == 0) outcome.local = read_socket_name(name);
    length = write_socket_name(upstream, name);
    if (::sendto(descriptor, payload.data(), payload.size(), 0, &name.any, length) < 0) {
        outcome.send_error = errno;
        return outcome;
    }
    Instant deadline = monotonic_now() + time_limit;
    for (Instant now = monotonic_now(); now < deadline && outcome.answers.size() < answers_max;
         now = monotonic_now()) {
        pollfd entry{descriptor, POLLIN, 0};
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(deadline - now).count();
        if (::poll(&entry, 1, static_cast<int>(left) + 1) <= 0) continue;
        const std::size_t before = outcome.answers.size();
        take_errors(descriptor, outcome);
        take_answers(descriptor, outcome);
        const bool is_first = before == 0 && !outcome.answers.empty();
        if (is_first || outcome.icmp_error != 0)
            deadline = std::min(deadline, monotonic_now() + linger);
    }
    return outcome;
}

std::vector<Finding> findings_of(const ProxyConfig& config, const Endpoint& upstream,
                                 const ProbeOutcome& outcome) {
    const std::string where = "proxy \"" + config.name + '"';
    std::vector<Finding> findings;
    const auto add = [&](Severity severity, std::string looked_at, std::string meaning,
                         std::string fix) {
        findings.push_back({FindingKind::probe, severity, where, std::move(looked_at),
                            std::move(meaning), std::move(fix)});
    };
    if (outcome.send_error != 0) {
        add(Severity::problem,
            fmt::format("sending to {}: {}", format(upstream), error_text(outcome.send_error)),
            outcome.send_error == EPERM ? "a packet filter drops what goes out"
                                        : "requests cannot leave",
            outcome.send_error == EPERM ? "nft list ruleset" : "");
        return findings;
    }
    if (outcome.icmp_error != 0)
        add(Severity::problem,
            fmt::format("{} answered the probe with ICMP: {}", format(outcome.icmp_from.address),
                        error_text(outcome.icmp_error)),
            outcome.icmp_error == ECONNREFUSED ? "nothing listens on that port"
                                               : "a device on the path refuses it",
            {});
    std::vector<Endpoint> sources;
    std::vector<std::string> unlisted;
    for (const ProbeAnswer& answer : outcome.answers) {
        Endpoint from = answer.from;
        if (std::find(sources.begin(), sources.end(), from) != sources.end()) continue;
        sources.push_back(from);
        const std::string heard = fmt::format("{} bytes came from {}", answer.bytes, format(from));
        const auto alias = std::find_if(config.reply_aliases.begin(), config.reply_aliases.end(),
                                        [&](const Alias& each) { return lists(each, from); });
        if (from.address == upstream.address && from.port == upstream.port) {
            add(Severity::ok, heard, "the upstream itself", {});
        } else if (alias != config.reply_aliases.end()) {
            add(Severity::ok, heard, fmt::format("listed as \"{}\"", alias->text), {});
        } else {
            unlisted.push_back(format(from));
            add(Severity::problem, heard, "it is not listed: its replies never reach a client",
                line_with(config, unlisted));
        }
    }
    if (sources.empty() && outcome.icmp_error == 0)
        add(Severity::problem,
            fmt::format("no answer from {} to {}", format(upstream), format(outcome.local)),
            "the service does not answer this payload, or a device on the path drops it",
            fmt::format("run tcpdump -ni any udp port {} while probing again", upstream.port));
    return findings;
}

}  // namespace udpproxy
