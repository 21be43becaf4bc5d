// Looks up names and numbers in a snapshot, and reads the receive queues from the kernel.
#include "udpproxy/runtime/status.hpp"

#include <fmt/format.h>
#include <linux/sock_diag.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

namespace udpproxy {

namespace {

template <class Entry>
const Entry* find_by_number(const std::vector<Entry>& entries, std::uint16_t number) {
    const auto found = std::lower_bound(
        entries.begin(), entries.end(), number,
        [](const Entry& entry, std::uint16_t wanted) { return entry.number < wanted; });
    return found != entries.end() && found->number == number ? &*found : nullptr;
}

}  // namespace

QueueState ListenerQueues::read() const {
    QueueState sum;
    const std::lock_guard lock(mutex_);
    for (const int descriptor : descriptors_) {
        std::array<std::uint32_t, SK_MEMINFO_VARS> memory{};
        socklen_t length = sizeof memory;
        // SO_MEMINFO is of Linux 4.12, SK_MEMINFO_DROPS of 4.19. Older kernels report no losses.
        if (::getsockopt(descriptor, SOL_SOCKET, SO_MEMINFO, memory.data(), &length) != 0) continue;
        sum.drops += memory[SK_MEMINFO_DROPS];
        sum.bytes += memory[SK_MEMINFO_RMEM_ALLOC];
    }
    return sum;
}

void ListenerQueues::withdraw() {
    const std::lock_guard lock(mutex_);
    descriptors_.clear();
}

void ListenerQueues::withdraw(int descriptor) {
    const std::lock_guard lock(mutex_);
    std::erase(descriptors_, descriptor);
}

UpstreamStatus status_of(const Upstream& upstream, const ProxyConfig& config) {
    UpstreamStatus status{config.upstream.text, upstream.endpoint(), {}};
    for (std::size_t i = 0; i < upstream.aliases().size(); ++i)
        status.aliases.push_back({config.reply_aliases[i].text, upstream.counter_index(i)});
    return status;
}

const ProxyStatus* Status::find_proxy(std::uint16_t number) const {
    return find_by_number(proxies, number);
}

const ProxyStatus* Status::find_proxy(std::string_view name) const {
    const auto found = std::find_if(proxies.begin(), proxies.end(),
                                    [&](const ProxyStatus& proxy) { return proxy.name == name; });
    return found == proxies.end() ? nullptr : &*found;
}

const ListenerStatus* Status::find_listener(std::uint16_t number) const {
    return find_by_number(listeners, number);
}

std::string aliases_with(const std::vector<Alias>& aliases, const Endpoint& source, bool any_port) {
    std::string line = "reply_aliases = [";
    for (const Alias& alias : aliases) line += '"' + alias.text + "\", ";
    std::string added = format(source);
    if (any_port) added.replace(added.rfind(':') + 1, std::string::npos, "*");
    return line + '"' + added + "\"]";
}

bool differ_in_port(const Endpoint& one, const Endpoint& other) noexcept {
    return one.address == other.address && one.scope == other.scope && one.port != other.port;
}

std::string text_of(const Succession& succession) {
    const std::string end = succession.last_end.empty() ? "" : " (" + succession.last_end + ')';
    const std::string from =
        succession.from_version.empty() ? "" : " from " + succession.from_version;
    std::string text;
    switch (succession.reason) {
        case StartReason::first:
            return "";
        case StartReason::crash:
            text = "replaced after a crash" + end;
            break;
        case StartReason::hang:
            text = "replaced after a hang" + end;
            break;
        case StartReason::upgrade:
            text = "replaced by an upgrade" + from;
            break;
        case StartReason::undone:
            text = "goes on after an upgrade that was undone" + end;
            break;
        case StartReason::restart:
            text = "replaced by a restart" + from;
            break;
    }
    text += fmt::format(", {} session{} adopted", succession.sessions_adopted,
                        succession.sessions_adopted == 1 ? "" : "s");
    if (succession.sessions_closed > 0)
        text += fmt::format(", {} closed", succession.sessions_closed);
    if (succession.pause)
        text += fmt::format(", pause {:.0f} ms",
                            std::chrono::duration<double, std::milli>(*succession.pause).count());
    return text;
}

}  // namespace udpproxy
